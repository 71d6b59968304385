"""Which output of a classifier means Z-DNA, decided from the config.

Every command that turns classifier logits into log-odds of Z-DNA uses these functions; heads of bases need none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from zflipon.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

Z_LABEL = re.compile(r"z(dna)?|z(dna)?flipons?|flipons?|zform(ing)?|zforms?|zhelix|lefthanded(dna)?")
"""Labels of Z-DNA, in lower case and with letters and digits only."""

NEGATIVE_LABEL = re.compile(
    r"b(dna)?|non?zdna|notz(dna)?|nonz|other|others|none|o|neg|negatives?|background|bg|false|no|null|0"
)
"""Labels of everything else."""

POSITIVE_LABEL = re.compile(r"pos|positives?|true|yes|1")

NUMBERED_LABEL = re.compile(r"(label|class|l|c)?\d+")
"""Names without a meaning, such as transformers' ``LABEL_0``: output 1 is taken for Z-DNA, as in training."""


def find_z_output(config: Any) -> int:
    """Return the index of the classifier output that means Z-DNA.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        ``num_labels`` and ``id2label`` are read. A single output is the logit of Z-DNA. Of several, the one with a
        label such as ``Z-DNA`` or ``positive`` is taken; of numbered labels, output 1.

    Raises
    ------
    ModelError
        If the labels do not say which output means Z-DNA.

    Examples
    --------
    >>> from transformers import PretrainedConfig
    >>> find_z_output(PretrainedConfig(id2label={0: "Z-DNA", 1: "B-DNA"}))
    0
    """
    count = int(config.num_labels)
    labels = [str(config.id2label.get(index, f"LABEL_{index}")) for index in range(count)]
    plain = [re.sub(r"[^a-z0-9]", "", label.lower()) for label in labels]
    if count < 2:
        if plain and NEGATIVE_LABEL.fullmatch(plain[0]) and plain[0] != "0":
            raise ModelError(
                f"id2label: the only output is called '{labels[0]}', not Z-DNA; correct config.json"
            )
        return 0
    if all(NUMBERED_LABEL.fullmatch(label) for label in plain):
        numbers = [int(re.sub(r"\D", "", label)) for label in plain]
        if sorted(numbers) == list(range(count)):
            return numbers.index(1)
    for pattern in (Z_LABEL, POSITIVE_LABEL):
        matches = [index for index, label in enumerate(plain) if pattern.fullmatch(label)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            break
    others = [index for index, label in enumerate(plain) if not NEGATIVE_LABEL.fullmatch(label)]
    if len(others) == 1:
        return others[0]
    raise ModelError(
        f"id2label names the outputs {', '.join(labels)}; exactly one of them must be called Z-DNA: correct config.json"
    )


def require_z_output(config: Any, source: Path) -> int:
    """Return `find_z_output` of the config that was read from a file; an error names it."""
    try:
        return find_z_output(config)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error


def require_standard_labels(config: Any, source: Path) -> None:
    """Refuse to train a head with other outputs than (not Z-DNA, Z-DNA), as the labels have them."""
    if config.num_labels == 2 and require_z_output(config, source) != 1:
        raise ModelError(
            f"{source}: output 0 means Z-DNA in id2label, but training uses output 1; "
            "swap the rows of the classifier and the labels"
        )


def find_z_output_in_file(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the Z-DNA output and the number of outputs of a ``config.json``, without transformers.

    Raises
    ------
    ModelError
        As `find_z_output`.
    """
    id2label = config.get("id2label")
    if isinstance(id2label, Mapping) and all(str(key).isdecimal() for key in id2label):
        labels = {int(key): label for key, label in id2label.items()}
    else:
        labels = {}
    count = len(labels) or config.get("num_labels")
    count = count if isinstance(count, int) and count > 0 else 2
    return find_z_output(SimpleNamespace(num_labels=count, id2label=labels)), count


def to_binary_logits(logits: Tensor, z_output: int) -> Tensor:
    """Return logits of (not Z-DNA, Z-DNA), shape (…, 2), from those of a classifier, shape (…, outputs).

    The difference of the two is the log-odds of Z-DNA: the logit itself for one output, and the log-odds of the
    softmax of the Z-DNA output against all others for several. Two outputs in the usual order are returned unchanged.

    Parameters
    ----------
    logits : Tensor
    z_output : int
        From `find_z_output`.
    """
    import torch

    if logits.shape[-1] == 1:
        return torch.cat([torch.zeros_like(logits), logits], dim=-1)
    if logits.shape[-1] == 2:
        return logits if z_output == 1 else logits.flip(-1)
    others = torch.cat([logits[..., :z_output], logits[..., z_output + 1 :]], dim=-1)
    return torch.stack([torch.logsumexp(others, dim=-1), logits[..., z_output]], dim=-1)


def class_log_odds(logits: Tensor, z_output: int = 1) -> Tensor:
    """Return the log-odds of one output of a classifier against all others: shape (…,) from (…, outputs)."""
    binary = to_binary_logits(logits, z_output)
    return binary[..., 1] - binary[..., 0]

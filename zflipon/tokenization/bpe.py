"""Edit the vocabulary and merges of a byte-pair encoding.

Tokenizing with it is in `zflipon.tokenization.tokenizers`, training a new one in `zflipon.tokenization.bpe_training`.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, overload

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@overload
def limit_token_length(tokenizer: Tokenizer, max_length: int) -> Tokenizer: ...


@overload
def limit_token_length(tokenizer: PreTrainedTokenizerFast, max_length: int) -> PreTrainedTokenizerFast: ...


def limit_token_length(tokenizer: Any, max_length: int) -> Any:
    """Limit a BPE tokenizer to tokens of at most `max_length` bases, keeping every id.

    Longer vocabulary entries are removed, except for special tokens, and so are the merges that would build them. The
    ids that remain keep their values and are no longer contiguous, so that a model's embedding table still fits.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer or transformers.PreTrainedTokenizerFast
        Not changed.
    max_length : int
        Bases, at least 1.

    Returns
    -------
    Same type as `tokenizer`
        The limited copy.

    Raises
    ------
    ValueError
        If `max_length` is below 1 or the tokenizer is not a BPE tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        limited = copy.deepcopy(tokenizer)  # a new instance of the class would lose its settings
        limited._tokenizer = limit_token_length(backend, max_length)
        return limited
    if max_length < 1:
        raise ValueError(f"max_length is {max_length}; a token needs at least one base")
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    if model["type"] != "BPE":
        raise ValueError(
            f"only BPE tokenizers have a token length that can be limited; this is {model['type']}"
        )
    special = {token["content"] for token in content["added_tokens"]}
    model["vocab"] = {
        token: token_id
        for token, token_id in model["vocab"].items()
        if token in special or len(token) <= max_length
    }
    model["merges"] = [merge for merge in model["merges"] if len("".join(split_merge(merge))) <= max_length]
    return Tokenizer.from_str(json.dumps(content))


def split_merge(merge: str | list[str]) -> tuple[str, str]:
    """Return the two sides of a merge, stored as ``"A B"`` or, since tokenizers 0.20, as ``["A", "B"]``."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def with_plain_merges(text: str) -> str:
    """Return the text of a ``tokenizer.json`` with merges as ``"A B"``.

    The tokenizers library writes ``["A", "B"]`` since 0.20, which earlier releases, such as those of transformers 4.40,
    cannot read. Newer ones read both. Tokens with a space need the list, so such a tokenizer stays as it is.

    Examples
    --------
    >>> json.loads(with_plain_merges('{"model": {"merges": [["C", "G"]]}}'))
    {'model': {'merges': ['C G']}}
    """
    content = json.loads(text)
    merges = [split_merge(merge) for merge in content["model"].get("merges", ())]
    if any(" " in side for merge in merges for side in merge):
        return text
    content["model"]["merges"] = [" ".join(merge) for merge in merges]
    return json.dumps(content, indent=2, ensure_ascii=False)

"""Where a checkpoint's files lie, and what can be read from them without torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from zflipon.errors import ModelError, format_names, suggest
from zflipon.models.metadata import ModelMetadata, declared_objective
from zflipon.models.registry import get_family, recognize_family

BUNDLED = Path(__file__).with_name("bundled")
"""Folder of the models that come with the package, one folder each."""

CONFIG = "config.json"
"""A folder without it is no checkpoint."""

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of weights in the official layout, best first."""

WANTED = [
    "config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.bin",
    "*.index.json",
    "tokenizer.json",
    "vocab.txt",
]
"""What is fetched from the hub: no code."""

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""Low-rank adapters in the layout of peft."""

ADAPTER_PREFIX = "base_model.model."
"""Before each name in ``adapter_model.safetensors``."""

BASE_SHA256 = "zflipon_base_sha256"
"""Key of a ``config.json`` beside adapters: the weights that they were trained on."""

WEIGHTS_SHA256 = "zflipon_sha256"
"""Key of a ``config.json``: the weights that were saved with it."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def sha256_of(*paths: Path) -> str:
    """Return the SHA-256, as hex, of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Files:
    """A checkpoint on disk.

    Attributes
    ----------
    folder : Path
        Holds ``config.json`` and the tokenizer.
    config : dict
        Content of ``config.json``.
    weights : tuple of Path
        One file, or the shards of a large model.
    name : str
        Under which it was found.
    adapter : dict or None
        Content of ``adapter_config.json``, where the weights are low-rank adapters and a head.
    base : Files or None
        What the adapters belong to.
    """

    folder: Path
    config: dict
    weights: tuple[Path, ...]
    name: str = ""
    adapter: dict | None = None
    base: Files | None = None

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(path.stat().st_size for path in self._all)

    @property
    def _all(self) -> tuple[Path, ...]:
        """The weights' files, those of the base first."""
        return (*(self.base.weights if self.base else ()), *self.weights)

    def sha256(self) -> str:
        """Return the SHA-256 of the weights as hex; of shards, or base and adapters, that of one after the other."""
        return sha256_of(*self._all)

    def damaged(self) -> bool:
        """Tell whether the weights, adapters without their base, are others than those that were saved here.

        What was not saved by zflipon has no record, and passes.
        """
        recorded = self.config.get(WEIGHTS_SHA256)
        ours = all(path.parent == self.folder and path.suffix == ".safetensors" for path in self.weights)
        return bool(recorded and ours) and sha256_of(*self.weights) != recorded

    def parameters(self) -> dict[str, int]:
        """Return how many numbers each floating-point tensor holds.

        The headers of safetensors files tell; other files are read, for which torch is needed.
        """
        if self.base:
            from zflipon.models.heads.standard import HEAD_PREFIXES

            encoder = {
                name: size
                for name, size in self.base.parameters().items()
                if not name.startswith(HEAD_PREFIXES)
            }
            own = replace(self, base=None).parameters()  # with the whole head
            plain = {
                name.removeprefix(ADAPTER_PREFIX).replace(".base_layer.", "."): size
                for name, size in own.items()
            }
            return {**encoder, **plain}
        if any(path.suffix != ".safetensors" for path in self.weights):
            from zflipon.models.checkpoint import read_tensors

            found = read_tensors(self)
            return {name: tensor.numel() for name, tensor in found.items() if tensor.is_floating_point()}
        return {
            name: math.prod(tensor["shape"])
            for path in self.weights
            for name, tensor in _header(path).items()
            if "F" in tensor.get("dtype", "")
        }

    def metadata(self, objective: str | None) -> ModelMetadata:
        """Return the checkpoint's story, filled up with its family's defaults.

        Parameters
        ----------
        objective : str or None
            Taken where the config tells none; see `infer_objective`.

        Raises
        ------
        ModelError
            If the family is unknown or the story no good.
        """
        name = recognize_family(self.config, self.folder)
        told = self.config.get("zflipon", {})
        try:
            # a family's module needs torch, so a story with nothing left out is read without it
            defaults = {} if ModelMetadata.is_complete(told) else get_family(name).default_metadata
            return ModelMetadata.from_dict(told, **{"family": name, "objective": objective, **defaults})
        except ModelError as error:
            raise ModelError(f"{self.folder / 'config.json'}: {error}") from error


def infer_objective(config: dict, tensors: Iterable[str]) -> str | None:
    """Tell which head a checkpoint has.

    A fine-tuned state dict often lies beside the config of the pretrained model, so
    the names of the tensors count for more than the class that the config names.

    Parameters
    ----------
    config : dict
        Content of ``config.json``.
    tensors : iterable of str
        Names of the tensors.
    """
    told = declared_objective(config)
    if "objective" in config:
        return told
    tensors = list(tensors)
    if any(name.startswith("base_head.") for name in tensors):
        return "base"
    if any(name.startswith("classifier.") for name in tensors):
        return "sequence" if told == "sequence" else "token"
    return "mlm" if any(name.startswith(("cls.predictions.", "decoder.")) for name in tensors) else None


def bundled() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))


def locate(name: str | Path, adapters: bool = True) -> Files:
    """Find a checkpoint.

    Parameters
    ----------
    name : str or Path
        A bundled model, a folder in the official layout, a file of weights beside
        its ``config.json``, or a hub id ``owner/name``.
    adapters : bool
        Whether low-rank adapters will do, or only whole weights.

    Raises
    ------
    ModelError
        If there is none, it lacks its config or its weights, or the base of its adapters is not what it was.
    """
    path = Path(name)
    if str(name) in bundled():
        path = BUNDLED / str(name)
    elif not path.exists():
        if not is_hub_id(str(name)):
            raise ModelError(
                f"{name}: no such model; expected a bundled one ({format_names(bundled())}), a checkpoint folder, "
                f"a file of weights, or a hub id owner/name{suggest(str(name), bundled())}"
            )
        path = fetch(str(name))
    folder = path if path.is_dir() else path.parent
    config = _read_json(folder / "config.json", "a checkpoint needs its config.json")
    if path.is_dir() and (folder / ADAPTER_CONFIG).is_file():
        if not adapters:
            raise ModelError(
                f"{name}: holds adapters itself, no whole weights; zflipon models merge makes them"
            )
        return _adapted(folder, config, str(name))
    return Files(folder, config, find_weights(path), str(name))


def _adapted(folder: Path, config: dict, name: str) -> Files:
    """Find the base that a folder of adapters belongs to, and see that it is the same as in training."""
    adapter = _read_json(folder / ADAPTER_CONFIG, "")
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise ModelError(
            f"{folder}: no {ADAPTER_WEIGHTS} beside its {ADAPTER_CONFIG}; is the checkpoint complete?"
        )
    told = adapter.get("base_model_name_or_path")
    if not told:
        raise ModelError(f"{folder / ADAPTER_CONFIG}: names no base model (base_model_name_or_path)")
    try:
        base = locate(told, adapters=False)
    except ModelError as error:
        raise ModelError(f"{folder}: the base model of these adapters is not to be had: {error}") from error
    expected = config.get(BASE_SHA256)
    if expected and expected != (found := base.sha256()):
        raise ModelError(
            f"{folder}: these adapters were trained on other weights than those of {told} now "
            f"(SHA-256 {found}); give back the ones of SHA-256 {expected}"
        )
    return Files(folder, config, (weights,), name, adapter, base)


def is_hub_id(name: str) -> bool:
    """Tell whether a name may be one of the hub, ``owner/name``."""
    return _HUB_ID.fullmatch(name) is not None


def fetch(repository: str, revision: str | None = None) -> Path:
    """Fetch a checkpoint from the hub, or find it in the hub's cache.

    Parameters
    ----------
    repository : str
        ``owner/name``.
    revision : str, optional
        Branch, tag or commit.

    Returns
    -------
    Path
        Folder in the cache.

    Raises
    ------
    ModelError
        If the hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=WANTED))
    except GatedRepoError as error:  # also a RepositoryNotFoundError, so it comes first
        raise ModelError(
            f"{repository}: the hub gives it only to who has accepted its terms; accept them on its page there, "
            "log in (hf auth login), and try again"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{repository}: the hub has no revision '{revision}' of it; name a branch, tag or commit that it has"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{repository}: no such folder here, and no such model on the hub; check the name, "
            "or log in (hf auth login) if it is private"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        if isinstance(error, OfflineModeIsEnabled) or isinstance(error.__cause__, OfflineModeIsEnabled):
            raise ModelError(
                f"{repository}: no such folder here, not in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it; "
                "unset that, or give a local folder"
            ) from error
        # the hub's messages run over several lines; the first sentence says it
        reason = (
            (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0].removeprefix("Got: ")
        )
        raise ModelError(
            f"{repository}: no such folder here, and the hub did not give it ({reason}); "
            "check the name and the connection, or give a local folder"
        ) from error
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("httpx", "httpcore", "requests"):
            raise
        raise ModelError(
            f"{repository}: no such folder here, and the hub could not be reached "
            f"({type(error).__name__}); connect, or give a local folder"
        ) from error


def find_weights(path: Path) -> tuple[Path, ...]:
    """Return the files of weights in a folder, best first, or the file itself; raise `ModelError` if there are none."""
    if path.is_file():
        return (path,)
    for name in WEIGHTS:
        if (path / name).is_file():
            return _shards(path / name) if name.endswith(".json") else (path / name,)
    bare = sorted(each for each in path.iterdir() if each.suffix in (".pt", ".pth", ".bin", ".safetensors"))
    if len(bare) == 1:
        return (bare[0],)
    if bare:
        names = format_names(each.name for each in bare)
        raise ModelError(f"{path}: several files of weights ({names}); name one of them")
    raise ModelError(f"{path}: no weights; model.safetensors or pytorch_model.bin was expected there")


def _shards(index: Path) -> tuple[Path, ...]:
    content = _read_json(index, "")
    if not isinstance(content.get("weight_map"), dict):
        raise ModelError(f"{index}: has no weight_map; is the checkpoint complete?")
    names = sorted(set(content["weight_map"].values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(f"{index.parent}: {index.name} names {format_names(missing)}, which is not there")
    return tuple(index.parent / name for name in names)


def _read_json(path: Path, need: str) -> dict:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; {need}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); is the checkpoint complete?") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _header(path: Path) -> dict:
    """Read a safetensors header: its length as a 64-bit number, then JSON."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("header longer than the file")
            return json.loads(file.read(length))
    except (struct.error, ValueError) as error:
        raise ModelError(f"{path}: not a safetensors file, or cut short ({error})") from error

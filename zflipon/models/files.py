"""Where the files of a checkpoint are, and the facts that can be read from them without torch.

Tensors are read in `zflipon.models.weight_files`; networks are built in `zflipon.models.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zflipon.checksums import sha256_of
from zflipon.errors import ModelError, format_names, suggest
from zflipon.models.hub import download, is_hub_id
from zflipon.models.metadata import DECODING_METADATA, ModelMetadata, infer_objective, upgrade
from zflipon.models.registry import get_family, recognize_family
from zflipon.models.weight_files import count_sizes, find_weights, read_json, read_tensor_sizes

BUNDLED = Path(__file__).with_name("bundled")
"""Folder of the models that ship with the package, one folder each."""

CONFIG = "config.json"
"""Name of the file that makes a folder a checkpoint."""

ADAPTER_CONFIG = "adapter_config.json"
"""Name of peft's configuration of adapters."""

ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""Names of peft's weights of adapters, in order of preference."""

ADAPTER_PREFIX = "base_model.model."
"""Prefix of every name in peft's weights of adapters."""

BASE_SHA256 = "zflipon_base_sha256"
"""Key of a ``config.json`` next to adapters: SHA-256 of the weights that they were trained on."""

WEIGHTS_SHA256 = "zflipon_sha256"
"""Key of a ``config.json``: SHA-256 of the weights that were saved with it."""

SHARED_WEIGHTS = "zflipon_shared_weights"
"""Key of a ``config.json``: ``model`` and ``sha256`` of the bundled model that has the tensors missing here."""

OBJECTIVE_OF_TASK = {"TOKEN_CLS": "token", "SEQ_CLS": "sequence"}
"""``task_type`` of peft → objective."""

METADATA_OF_A_HEAD = ("objective", "threshold", "calibration", "training", "quality", "versions")
"""Metadata of a base model that do not hold for adapters trained on it."""


@dataclass(frozen=True)
class CheckpointFiles:
    """Files of a checkpoint on disk.

    Attributes
    ----------
    folder : Path
        Holds ``config.json`` and the tokenizer.
    config : dict
        Content of ``config.json``; for adapters saved by peft alone, that of their base.
    weights : tuple of Path
        One file, or the shards of a large model.
    name : str
        Name or path under which the user asked for the checkpoint.
    adapter : dict or None
        Content of ``adapter_config.json`` if the weights are low-rank adapters.
    base : CheckpointFiles or None
        Checkpoint that the adapters belong to.
    shared : tuple of Path
        Weights of a bundled model that has the tensors which `weights` lack; see `zflipon.models.shared_weights`.
    """

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    name: str = ""
    adapter: dict[str, Any] | None = None
    base: CheckpointFiles | None = None
    shared: tuple[Path, ...] = ()

    @property
    def whole_weights(self) -> tuple[Path, ...]:
        """Files of all weights but those of a base; tensors of later files replace those of earlier ones."""
        return (*self.shared, *self.weights)

    @property
    def all_weights(self) -> tuple[Path, ...]:
        """All files of weights, those of the base first."""
        return (*(self.base.whole_weights if self.base else ()), *self.whole_weights)

    @property
    def size(self) -> int:
        """Size of the weights in bytes."""
        return sum(path.stat().st_size for path in self.all_weights)

    def sha256(self) -> str:
        """Return the SHA-256 of the weights as hex; several files are concatenated, those of the base first."""
        return sha256_of(*self.all_weights)

    def verify_weights(self) -> None:
        """Compare the weights with the SHA-256 recorded when they were saved; weights without a record pass.

        Raises
        ------
        ModelError
            If they differ.
        """
        if self.base:
            self.base.verify_weights()
        expected = self.config.get(WEIGHTS_SHA256)
        path = self.weights[0]
        # the record is that of one safetensors file; shards and pickles were written by other code
        is_recorded = len(self.weights) == 1 and path.parent == self.folder and path.suffix == ".safetensors"
        if expected is None or not is_recorded:
            return
        actual = sha256_of(path)
        if actual != expected:
            raise ModelError(
                f"{path}: the weights are damaged or were replaced: their SHA-256 is {actual}, but config.json "
                f"records {expected}; copy or download the checkpoint again (after a deliberate change, remove "
                f"{WEIGHTS_SHA256} from config.json)"
            )

    def tensor_sizes(self) -> dict[str, int]:
        """Return how many numbers each floating-point tensor holds, by its name in the network."""
        own = read_tensor_sizes(self.whole_weights)
        if not self.base:
            return own
        from zflipon.models.heads.standard import HEAD_PREFIXES

        encoder = {
            name: size
            for name, size in self.base.tensor_sizes().items()
            if not name.startswith(HEAD_PREFIXES)
        }
        own = {plain_name(name): size for name, size in own.items()}
        heads = {name for name in own if name.startswith(HEAD_PREFIXES)}
        if not heads:  # the adapters use the head of the base
            encoder = self.base.tensor_sizes()
        return {**encoder, **own}

    def parameter_count(self) -> int:
        """Return the number of parameters, adapters included."""
        return count_sizes(self.tensor_sizes())

    def objective(self, tensor_names: list[str]) -> str | None:
        """Return the objective of the head; see `zflipon.models.metadata.infer_objective`."""
        if self.adapter and "objective" not in self.config:
            of_task = OBJECTIVE_OF_TASK.get(str(self.adapter.get("task_type")))
            own = [plain_name(name) for name in read_tensor_sizes(self.weights)]
            own_head = infer_objective({}, own)
            if own_head:
                return of_task if own_head == "token" and of_task else own_head
        return infer_objective(self.config, tensor_names)

    def metadata(self, objective: str | None = None) -> ModelMetadata:
        """Return the metadata of the checkpoint, with the defaults of its family where it has none.

        Parameters
        ----------
        objective : str, optional
            Used if the config declares none; see `objective`.

        Raises
        ------
        ModelError
            If the family is unknown or the metadata are invalid.
        """
        name = recognize_family(self.config, self.folder)
        stored = self.config.get("zflipon", {})
        try:
            # importing a family imports torch, which complete metadata do not need
            defaults = {} if ModelMetadata.is_complete(stored) else default_metadata(name, objective)
            return ModelMetadata.from_dict(stored, **{"family": name, "objective": objective, **defaults})
        except ModelError as error:
            raise ModelError(f"{self.folder / CONFIG}: {error}") from error

    def require_decoding(self, tensor_names: Iterable[str], given: Iterable[str] = ()) -> None:
        """Refuse a base-resolution head without `DECODING_METADATA`; zflipon always writes them.

        Parameters
        ----------
        tensor_names : iterable of str
            Names in the state dict.
        given : iterable of str
            Fields that the caller sets.

        Raises
        ------
        ModelError
            If a field is missing.
        """
        stored = self.config.get("zflipon", {})
        has_head = any(name.startswith("base_head.") for name in tensor_names)
        # peft saves adapters without metadata; `metadata` refuses another type
        if not has_head or self.adapter is not None or not isinstance(stored, dict):
            return
        missing = [key for key in DECODING_METADATA if key not in {*given, *stored}]
        if missing:
            raise ModelError(
                f"{self.folder / CONFIG}: section 'zflipon' lacks {format_names(missing)}, without which the scores of "
                "a base-resolution head have no meaning; copy or download the checkpoint again"
            )

    def find_tokenizer(self, file_name: str) -> Path:
        """Return the path of the tokenizer: in the folder, or in that of the base."""
        path = self.folder / file_name
        if self.base and not path.is_file():
            return self.base.folder / file_name
        return path


def default_metadata(family: str, objective: str | None) -> dict[str, Any]:
    """Return the metadata that a checkpoint of a family has by default, by field.

    Z-DNABERT calls tokens of overlapping k-mers and was trained without ``[CLS]`` and ``[SEP]``, unlike DNABERT.
    """
    defaults = dict(get_family(family).default_metadata)
    if family == "dnabert" and objective == "token":
        defaults.setdefault("special_tokens", False)
    return defaults


def plain_name(name: str) -> str:
    """Return the name in the network of a tensor in peft's file of adapters."""
    return name.removeprefix(ADAPTER_PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.", ".")


def bundled() -> list[str]:
    """Return the names of the models that ship with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))


def locate(name: str | Path, allow_adapters: bool = True) -> CheckpointFiles:
    """Find the files of a checkpoint; a hub id is downloaded unless it is in the cache.

    Parameters
    ----------
    name : str or Path
        A bundled model, a folder in the layout of transformers or peft, a file of weights next to its
        ``config.json``, or a hub id ``owner/name``.
    allow_adapters : bool
        False refuses low-rank adapters.

    Raises
    ------
    ModelError
        If there is no such checkpoint, its config or weights are missing, or the base of its adapters has changed.
    """
    path = _find_path(str(name))
    if not path.is_file() and not path.is_dir():
        raise ModelError(f"{path}: neither a regular file nor a folder; expected a checkpoint")
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and (folder / ADAPTER_CONFIG).is_file():
        if not allow_adapters:
            raise ModelError(
                f"{name}: holds adapters, not whole weights; merge them first: zflipon models merge"
            )
        return _locate_adapters(folder, str(name))
    config = read_json(folder / CONFIG, "a checkpoint needs its config.json")
    shared = _locate_shared(config, folder) if path.is_dir() else ()
    return CheckpointFiles(folder, config, find_weights(path), str(name), shared=shared)


def _locate_shared(config: dict[str, Any], folder: Path) -> tuple[Path, ...]:
    """Return the weights of the bundled model that a config names as the owner of its missing tensors."""
    entry = config.get(SHARED_WEIGHTS)
    if entry is None:
        return ()
    name = entry.get("model") if isinstance(entry, dict) else None
    if name not in bundled():
        raise ModelError(
            f"{folder / CONFIG}: {SHARED_WEIGHTS} names the model {name!r}; expected a bundled one "
            f"({format_names(bundled())})"
        )
    weights = find_weights(BUNDLED / name)
    actual = sha256_of(*weights)
    if actual != entry.get("sha256"):
        raise ModelError(
            f"{folder}: shares weights with another version of the bundled model {name} (SHA-256 "
            f"{entry.get('sha256')}, found {actual}); install the version of zflipon that it was made with"
        )
    return weights


def _find_path(name: str) -> Path:
    if name in bundled():
        return BUNDLED / name
    if Path(name).exists():
        return Path(name)
    if is_hub_id(name):
        return download(name)
    raise ModelError(
        f"{name}: no such model; expected a bundled one ({format_names(bundled())}), a checkpoint folder, "
        f"a file of weights, or a hub id owner/name{suggest(name, bundled())}"
    )


def _locate_adapters(folder: Path, name: str) -> CheckpointFiles:
    """Find adapters and their base, and compare the base with that of the training."""
    adapter = read_json(folder / ADAPTER_CONFIG)
    weights = next((folder / each for each in ADAPTER_WEIGHTS if (folder / each).is_file()), None)
    if weights is None:
        raise ModelError(
            f"{folder}: no {' or '.join(ADAPTER_WEIGHTS)} next to its {ADAPTER_CONFIG}; is the checkpoint complete?"
        )
    base_name = adapter.get("base_model_name_or_path")
    if not isinstance(base_name, str) or not base_name:
        raise ModelError(f"{folder / ADAPTER_CONFIG}: names no base model (base_model_name_or_path)")
    try:
        base = locate(_resolve_base(base_name, folder), allow_adapters=False)
    except ModelError as error:
        raise ModelError(f"{folder}: the base model of these adapters cannot be loaded: {error}") from error
    has_config = (folder / CONFIG).is_file()
    config = read_json(folder / CONFIG) if has_config else _config_of_base(base)
    expected = config.get(BASE_SHA256)
    if expected and expected != (actual := base.sha256()):
        raise ModelError(
            f"{folder}: these adapters were trained on other weights than {base_name} has now (SHA-256 {actual}); "
            f"restore the weights with SHA-256 {expected}"
        )
    return CheckpointFiles(folder, config, (weights,), name, adapter, base)


def _resolve_base(base_name: str, folder: Path) -> str:
    """Return the base as a path relative to the adapters if it exists there and nowhere else."""
    relative = folder / base_name
    if base_name in bundled() or (Path(base_name).exists() and not base_name.startswith(".")):
        return base_name
    return str(relative) if relative.exists() else base_name


def _config_of_base(base: CheckpointFiles) -> dict[str, Any]:
    """Return the config of adapters saved without one: the base's, less what describes the head of the base."""
    config = {key: value for key, value in base.config.items() if key not in ("objective", WEIGHTS_SHA256)}
    stored = config.get("zflipon")
    if isinstance(stored, dict):
        kept = {key: value for key, value in upgrade(stored).items() if key not in METADATA_OF_A_HEAD}
        config["zflipon"] = {**kept, "format_version": 2}
    return config


def without_record(files: CheckpointFiles) -> CheckpointFiles:
    """Return the files without the recorded SHA-256, for weights that come from another folder than the config."""
    config = {key: value for key, value in files.config.items() if key != WEIGHTS_SHA256}
    return replace(files, config=config)

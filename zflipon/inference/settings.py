"""How a model is run: the user's `InferenceConfig` and the model's defaults, resolved once into fixed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zflipon.config import InferenceConfig, ModelConfig
from zflipon.inference.devices import (
    LARGE_MODEL_PARAMETERS,
    precision_name,
    resolve_device,
    resolve_precision,
)
from zflipon.models.weights import count_parameters

if TYPE_CHECKING:
    from zflipon.models import Checkpoint
    from zflipon.models.base import DnaModel
    from zflipon.models.metadata import ModelMetadata


@dataclass(frozen=True)
class InferenceSettings:
    """Resolved settings of inference.

    Attributes
    ----------
    device : torch.device
    dtype : torch.dtype
        Precision of the encoder's matrix products.
    both_strands : bool
        Whether predictions of both strands are averaged.
    batch_size : int or None
        Windows per forward pass; None chooses by device and window length.
    threads : int or None
        CPU threads; None uses the number that torch is set to.
    """

    device: torch.device
    dtype: torch.dtype
    both_strands: bool = False
    batch_size: int | None = None
    threads: int | None = None

    @property
    def precision(self) -> str:
        """Name of the dtype, as in `InferenceConfig`."""
        return precision_name(self.dtype)

    def to_dict(self) -> dict[str, int | str | bool | None]:
        """Return the settings as plain values, with the keys of `InferenceConfig`, for a run record."""
        return {
            "batch_size": self.batch_size,
            "precision": self.precision,
            "device": str(self.device),
            "threads": self.threads,
            "both_strands": self.both_strands,
        }


def resolve_settings(config: InferenceConfig | None, checkpoint: Checkpoint) -> InferenceSettings:
    """Resolve ``auto`` and None in a config, for a checkpoint and this machine.

    Processes of one job may run on different processors. They must all use the precision that one of them resolves.

    Raises
    ------
    ZfliponError
        If the device is not available.
    ModelError
        If the precision is unknown.
    """
    config = config or InferenceConfig()
    device = resolve_device(config.device)
    return InferenceSettings(
        device=device,
        dtype=resolve_precision(config.precision, device, gains_from_bfloat16(checkpoint.module)),
        both_strands=resolve_strands(config, checkpoint.metadata),
        batch_size=config.batch_size,
        threads=config.threads,
    )


def gains_from_bfloat16(module: DnaModel) -> bool:
    """Return whether a model spends most of its time on a CPU in matrix products or convolutions.

    These are the only operations that bfloat16 speeds up there.
    """
    return module.reads_wide_context or count_parameters(module) >= LARGE_MODEL_PARAMETERS


def resolve_strands(config: InferenceConfig | ModelConfig, metadata: ModelMetadata) -> bool:
    """Return whether both strands are read: as configured, or else as the model's metadata say."""
    return metadata.both_strands if config.both_strands is None else config.both_strands

"""Train the context network: chromatin tracks and labelled Z-HUNT calls at once.

The windows are in `zflipon.training.context_windows`. The loop is our own rather than the Trainer's: batches are built
from arrays in memory, and the order of windows follows from the seed and the step alone, so that a resumed run equals
an undisturbed one.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zflipon.errors import NotANumberError
from zflipon.models.heads.context_network import TrackReadout
from zflipon.models.heads.wide_context import WideContext
from zflipon.training.context_windows import Batch, ContextTraining, ContextWindows

log = logging.getLogger("zflipon")


class ContextModule(nn.Module):
    """The trained modules: the context, its two readouts, and an offset per chromosome.

    Labels are unequally dense between chromosomes for reasons that sequence does not show (cells have one chrX, say).
    The offset of a chromosome absorbs that; `fold_offsets` leaves their mean behind.

    Parameters
    ----------
    context : WideContext
    activity : torch.nn.Linear
        Hidden units of the context → activity logit.
    tracks : TrackReadout
    chromosomes : int
    prior : float
        Added to the activity logit.
    dropout : float
        Fraction of hidden units dropped before the activity readout.
    """

    def __init__(
        self,
        context: WideContext,
        activity: nn.Linear,
        tracks: TrackReadout,
        chromosomes: int,
        prior: float = 0.0,
        dropout: float = 0.2,
    ):
        super().__init__()
        self.context, self.activity, self.tracks, self.prior = context, activity, tracks, prior
        self.dropout = nn.Dropout(dropout)
        self.offset = nn.Parameter(torch.zeros(chromosomes))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of the tracks and that of the calls."""
        hidden, coarse = self.context.read(batch.bases)
        logits, expected = self.tracks(coarse)[batch.inside], batch.tracks[batch.inside]
        tracks = F.binary_cross_entropy_with_logits(logits.float(), expected.float())
        if not len(batch.rows):
            return tracks, tracks.new_zeros(())
        activity = self.activity(self.dropout(hidden[batch.rows, batch.bins])).float().squeeze(-1)
        activity = activity + self.prior + self.offset[batch.groups]
        penalty = self.offset.square().sum() / 1000  # chromosomes of few calls stay near zero
        return tracks, F.binary_cross_entropy_with_logits(activity, batch.labelled) + penalty

    @torch.no_grad()
    def fold_offsets(self, calls: Sequence[int]) -> None:
        """Add the mean offset, weighted by the number of calls of each chromosome, to the bias of the readout."""
        weights = torch.tensor(calls, dtype=torch.float32)
        self.activity.bias.add_((self.offset * weights).sum() / weights.sum())
        self.offset.zero_()


def train_context(
    module: ContextModule,
    windows: ContextWindows,
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    progress: Callable[[int, float, float], None] = lambda step, tracks, calls: None,
) -> None:
    """Train in place; the weights end as their running average.

    Parameters
    ----------
    module : ContextModule
    windows : ContextWindows
    folder : Path
        Holds the checkpoint of an interrupted run, from which the next call resumes.
    dtype : torch.dtype
        Of the activations.
    progress : callable
        Called after every step with its number and both losses.

    Raises
    ------
    NotANumberError
        If a loss is not a number.
    """
    settings = windows.settings
    module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: missing in the stubs
    matrices = [weights for weights in module.parameters() if weights.ndim > 1]
    vectors = [weights for weights in module.parameters() if weights.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    average = {name: each.detach().clone() for name, each in module.state_dict().items()}
    first = _resume(folder / "context.pt", module, optimizer, average)
    scale = len(windows.targets.names) / 20  # a mean over a thousand rare tracks is a small number
    torch.manual_seed(settings.seed + first)
    module.train()
    for step, batch in _prefetch(windows, first):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            tracks, calls = module(batch)
        loss = scale * tracks
        if step >= settings.first_call_step:
            loss = loss + settings.call_weight * calls
        if not math.isfinite(loss.item()):
            raise NotANumberError(f"step {step}: the loss is not a number; a lower learning rate may help")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        decay = min(settings.average, (step + 1) / (step + 10))
        with torch.no_grad():
            weights = list(average.values()), list(module.state_dict().values())
            torch._foreach_lerp_(*weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]: as torch does
        progress(step + 1, tracks.item(), calls.item())
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            _save(folder / "context.pt", module, optimizer, average, step + 1)
    module.load_state_dict(average)


def _schedule(step: int, settings: ContextTraining) -> float:
    """Return the share of the learning rate at a step."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return min(1.0, (step + 1) / settings.warmup) * (0.99 * cosine + 0.01)


def _prefetch(windows: ContextWindows, first: int) -> Iterator[tuple[int, Batch]]:
    """Yield steps with their batches; the next ones are built meanwhile."""
    steps = range(first, windows.settings.steps)
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(windows.batch, step) for step in steps[:3]]
        for step in steps:
            batch = waiting.pop(0).result()
            if step + 3 < windows.settings.steps:
                waiting.append(pool.submit(windows.batch, step + 3))
            yield step, batch


def _save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: dict, step: int) -> None:
    part = path.with_name(path.name + ".part")
    state = {
        "step": step,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
    }
    torch.save(state, part)
    os.replace(part, path)


def _resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: dict) -> int:
    """Load the checkpoint of an interrupted run; return the step to continue from."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    for name, each in state["average"].items():
        average[name].copy_(each)
    log.info("context training resumes at step %d", state["step"])
    return state["step"]

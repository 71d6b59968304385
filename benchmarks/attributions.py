"""How many windows a second are attributed, beside one sequence at a time, on the same device.

python benchmarks/attributions.py [--model compact] [--device auto] [--windows 64] [--width 128] [--alone 4]
    [--steps 50]

--model is a bundled name or a checkpoint; ``dnabert2-117m`` is made here, of the published shape with random weights.
Windows are random DNA, one scalar each. Printed are the rates of

(a) the plain loop: one sequence, one step at a time, forwards and back, through torch alone;
(b) captum as transformers-interpret calls it: one sequence at a time, all its steps together;
(c) ours: sequences and steps together;

the ratios of (c) to both, and the greatest difference of a score from the plain loop's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from zflipon.config import AttributionConfig
from zflipon.explain.attribution import AttributionTarget
from zflipon.explain.integrated_gradients import OBJECTIVES, IntegratedGradientsExplainer
from zflipon.models import Checkpoint, create, load
from zflipon.tokenization.bpe_training import train_bpe


def main() -> None:
    """Measure and print."""
    arguments = parse()
    checkpoint = model(arguments.model)
    sequences = dna(arguments.windows, arguments.width)
    attributor = IntegratedGradientsExplainer(checkpoint, AttributionConfig(arguments.steps), arguments.device)
    aims = [AttributionTarget(index, weights(attributor, text)) for index, text in enumerate(sequences)]
    few = aims[: arguments.alone]
    for aim in few[:1]:  # first calls are slow
        list(attributor.attribute(sequences, [aim]))
        next(loop(attributor, sequences, [aim]))
    loop_rate, expected = timed(attributor, few, lambda: loop(attributor, sequences, few))
    alone = few * (1 if attributor.device.type == "cpu" else 8)
    alone_rate, _ = timed(
        attributor,
        alone,
        lambda: (one for aim in alone for one in attributor.attribute(sequences, [aim])),
    )
    rate, found = timed(attributor, aims, lambda: attributor.attribute(sequences, aims))
    found = {one.aim.sequence: one.embeddings for one in found}
    gap = max(np.abs(found[aim.sequence] - scores).max() for aim, scores in zip(few, expected, strict=True))
    scale = max(np.abs(scores).max() for scores in expected)
    print(
        f"{arguments.model} ({attributor.metadata.objective}) on {attributor.device}, {torch.get_num_threads()} "
        f"threads, {arguments.width} bases, {arguments.steps} steps\n"
        f"(a) plain loop          {loop_rate:10.3f} windows/s\n"
        f"(b) a sequence at a time {alone_rate:9.3f} windows/s\n"
        f"(c) batched             {rate:10.3f} windows/s\n"
        f"(c)/(a) {rate / loop_rate:.1f}, (c)/(b) {rate / alone_rate:.1f}; "
        f"scores differ from (a) by {gap:.2g} at most, of {scale:.2g}"
    )


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="compact")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--alone", type=int, default=4, help="windows of (a) and (b)")
    parser.add_argument("--steps", type=int, default=50)
    return parser.parse_args()


def model(name: str) -> Checkpoint:
    """Load a model, or make DNABERT-2 with random weights."""
    if name != "dnabert2-117m":
        return load(name, OBJECTIVES)
    tokenizer = train_bpe(dna(200, 2000), vocab_size=4096, max_token_length=5)
    return create("dnabert2", "token", tokenizer, vocab_size=4096)


def dna(count: int, width: int) -> list[str]:
    """Return random sequences."""
    rng = np.random.default_rng(0)
    return ["".join(row) for row in rng.choice(list("ACGT"), (count, width))]


def weights(attributor: Attributor, text: str) -> np.ndarray:
    """Return the weights of the mean over all that the head gives."""
    tokens = attributor.tokenizer.encode([text])[0]
    size = {"token": len(tokens.ids), "base": len(text), "sequence": 1}[attributor.metadata.objective]
    return np.full(size, 1 / size, dtype=np.float32)


def loop(attributor: Attributor, sequences: list[str], aims: list[AttributionTarget]) -> Iterator[np.ndarray]:
    """Yield the scores of token embeddings: a sequence after the other, a step after the other."""
    nodes, sizes = np.polynomial.legendre.leggauss(attributor.config.steps)
    for aim in aims:
        tokens = attributor.tokenizer.encode([sequences[aim.sequence]])
        problem = attributor._problem([AttributionTarget(0, aim.weights)], tokens, [sequences[aim.sequence]])
        total = torch.zeros_like(problem.inputs[0])
        for alpha, size in zip((nodes + 1) / 2, sizes / 2, strict=True):
            now = [
                (start + alpha * (end - start)).requires_grad_()
                for start, end in zip(problem.baselines, problem.inputs, strict=True)
            ]
            total += size * torch.autograd.grad(problem.scalar(*now, *problem.given).sum(), now)[0]
        yield (total * (problem.inputs[0] - problem.baselines[0])).sum(2)[0].cpu().numpy()


def timed(
    attributor: Attributor, aims: list[AttributionTarget], run: Callable[[], Iterator]
) -> tuple[float, list]:
    """Return windows a second, and what came out."""
    started = time.perf_counter()
    found = list(run())
    if attributor.device.type == "cuda":
        torch.cuda.synchronize()
    return len(aims) / (time.perf_counter() - started), found


if __name__ == "__main__":
    main()

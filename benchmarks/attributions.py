"""Windows per second of attributions, compared with one sequence at a time on the same device.

python benchmarks/attributions.py [--model compact] [--device auto] [--windows 64] [--width 128] [--alone 4]
    [--steps 50]

--model is a bundled name or a checkpoint; ``dnabert2-117m`` is created here, with the published shape and random
weights. Windows are random DNA with one target each. Printed are the rates of

(a) a plain loop: one sequence and one step at a time, forward and backward, with torch only;
(b) captum as transformers-interpret calls it: one sequence at a time, all its steps together;
(c) zflipon: sequences and steps together;

the ratios of (c) to both, and the largest difference of a score from the plain loop.
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
    config = AttributionConfig(arguments.steps)
    explainer = IntegratedGradientsExplainer(checkpoint, config, arguments.device)
    targets = [AttributionTarget(index, weights(explainer, text)) for index, text in enumerate(sequences)]
    few = targets[: arguments.alone]
    for target in few[:1]:  # first calls are slow
        list(explainer.attribute(sequences, [target]))
        next(plain_loop(explainer, sequences, [target]))
    loop_rate, expected = timed(explainer, few, lambda: plain_loop(explainer, sequences, few))
    single = few * (1 if explainer.device.type == "cpu" else 8)
    single_rate, _ = timed(
        explainer,
        single,
        lambda: (each for target in single for each in explainer.attribute(sequences, [target])),
    )
    rate, attributions = timed(explainer, targets, lambda: explainer.attribute(sequences, targets))
    scores = {each.target.sequence: each.embeddings for each in attributions}
    pairs = zip(few, expected, strict=True)
    gap = max(np.abs(scores[target.sequence] - values).max() for target, values in pairs)
    scale = max(np.abs(values).max() for values in expected)
    print(
        f"{arguments.model} ({explainer.metadata.objective}) on {explainer.device}, {torch.get_num_threads()} "
        f"threads, {arguments.width} bases, {arguments.steps} steps\n"
        f"(a) plain loop               {loop_rate:10.3f} windows/s\n"
        f"(b) one sequence at a time   {single_rate:10.3f} windows/s\n"
        f"(c) batched                  {rate:10.3f} windows/s\n"
        f"(c)/(a) {rate / loop_rate:.1f}, (c)/(b) {rate / single_rate:.1f}; "
        f"largest difference of a score from (a) {gap:.2g}, largest score {scale:.2g}"
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


def weights(explainer: IntegratedGradientsExplainer, text: str) -> np.ndarray:
    """Return the target weights of the mean over all outputs of the head."""
    tokens = explainer.tokenizer.encode([text])[0]
    size = {"token": len(tokens.ids), "base": len(text), "sequence": 1}[explainer.metadata.objective]
    return np.full(size, 1 / size, dtype=np.float32)


def plain_loop(
    explainer: IntegratedGradientsExplainer, sequences: list[str], targets: list[AttributionTarget]
) -> Iterator[np.ndarray]:
    """Yield the scores of token embeddings, one sequence and one step at a time."""
    nodes, sizes = np.polynomial.legendre.leggauss(explainer.config.steps)
    for target in targets:
        text = sequences[target.sequence]
        batch = explainer.batches.build([target], explainer.tokenizer.encode([text]), [text])
        total = torch.zeros_like(batch.inputs[0])
        for alpha, size in zip((nodes + 1) / 2, sizes / 2, strict=True):
            points = [
                (start + alpha * (end - start)).requires_grad_()
                for start, end in zip(batch.baselines, batch.inputs, strict=True)
            ]
            value = batch.target_values(*points, *batch.arguments).sum()
            total += size * torch.autograd.grad(value, points)[0]
        yield (total * (batch.inputs[0] - batch.baselines[0])).sum(2)[0].cpu().numpy()


def timed(
    explainer: IntegratedGradientsExplainer, targets: list[AttributionTarget], run: Callable[[], Iterator]
) -> tuple[float, list]:
    """Return windows per second, and the results."""
    started = time.perf_counter()
    results = list(run())
    if explainer.device.type == "cuda":
        torch.cuda.synchronize()
    return len(targets) / (time.perf_counter() - started), results


if __name__ == "__main__":
    main()

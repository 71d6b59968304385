"""Throughput of `zflipon annotate`: bases per second, time by stage, share of the matrix rate, and other programs.

python benchmarks/throughput.py GENOME.fa [--model compact] [--device auto] [--megabases 1 10 40] [--loops 64]
    [--screen] [--num-processes N] [--peers]

--model is a bundled model or a checkpoint. ``dnabert2-117m`` and ``dnabert-6mer-86m`` are created here with the
published shapes and random weights. Each size is one run of ``zflipon annotate``, from FASTA to finished bigWig, on the
first bases of the longest contigs.

Printed are bases and tokens per second, the share of wall time of each stage (stages overlap, so shares may add up to
more than one), the model's operations per second as a share of the device's matrix-multiply rate measured in the same
run, and peak memory. Then the rate of everything except the model, which is replaced by constants. With --peers, in
the same run: (a) one window of 128 bp at a time, tokenized one by one, as the published evaluation does; (b) 512
overlapping 6-mers at a time, as Z-DNABERT's notebook does; (c) the token-classification pipeline of transformers, 32
windows per batch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from zflipon.config import InferenceConfig, Selection
from zflipon.genome.fasta import Genome
from zflipon.genome.windows import tile_windows
from zflipon.inference.batching import Batch
from zflipon.inference.devices import resolve_device
from zflipon.inference.executor import Executor, PendingOutput
from zflipon.inference.predictor import Predictor
from zflipon.inference.settings import resolve_settings
from zflipon.models import Checkpoint, create, load, save
from zflipon.tokenization.bpe_training import train_bpe
from zflipon.tokenization.tokenizers import KmerTokenizer
from zflipon.workflows.annotate import annotate

WINDOW = 128
"""Bases of a published window."""

SIX_MERS = 512
"""6-mers of a window of Z-DNABERT."""

MATRIX = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices whose product is timed, by device."""


def main() -> None:
    """Measure, and print the tables."""
    arguments = parse()
    with tempfile.TemporaryDirectory(prefix="throughput-") as scratch, Genome(arguments.genome) as genome:
        name = resolve_model(arguments.model, Path(scratch), genome)
        checkpoint = load(name)
        device = resolve_device(arguments.device)
        config = InferenceConfig(device=arguments.device, precision=arguments.precision)
        dtype = resolve_settings(config, checkpoint).dtype
        peak = matrix_rate(device, dtype)
        print(
            f"{arguments.model} on {device_name(device)}, {torch.get_num_threads()} threads, {str(dtype)[6:]}; "
            f"matrix products run at {peak / 1e12:.3f} TFLOP/s"
        )
        predictor = Predictor(checkpoint, config)
        operations_per_base, tokens_per_base = cost_per_base(checkpoint.module, predictor, genome)
        rows = []
        for megabases in arguments.megabases:
            regions = first_bases(genome, int(megabases * 1e6))
            report = annotate_regions(arguments, name, regions, Path(scratch))
            rows.append(table_row(megabases, report, operations_per_base, tokens_per_base, peak))
        print_table(rows)
        rate = without_model(arguments, name, whole_contigs(genome, 20_000_000), Path(scratch))
        print(f"\neverything except the model: {rate / 1e6:.2f} Mb/s")
        if arguments.peers:
            ours = rows[-1]["Mb/s"] * 1e6
            for label, bases in peers(checkpoint, predictor, genome, arguments.loops, Path(scratch)):
                print(f"{label}: {bases:,.0f} bases/s; zflipon is {ours / bases:.2f} x as fast")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genome", type=Path)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--megabases", type=float, nargs="+", default=[1, 10, 40])
    parser.add_argument("--loops", type=int, default=64, help="windows of each peer's loop")
    parser.add_argument("--screen", action="store_true")
    parser.add_argument("--num-processes", type=int, default=1)
    parser.add_argument("--peers", action="store_true")
    return parser.parse_args()


def resolve_model(name: str, scratch: Path, genome: Genome) -> str:
    """Return the name or folder of a model; the published shapes are created with random weights."""
    if name == "dnabert2-117m":
        text = genome.fetch(*middle_of_longest_contig(genome, 2_000_000))
        tokenizer = train_bpe([text[i : i + 4000] for i in range(0, len(text), 4000)], 4096, 5)
        # there are about 1,400 tokens of at most 5 bases; the embedding table has the published 4,096 rows
        checkpoint = create("dnabert2", "token", tokenizer, vocab_size=4096)
    elif name == "dnabert-6mer-86m":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        letters = [*special, *map("".join, product("ATCG", repeat=6))]
        checkpoint = create("dnabert", "token", KmerTokenizer({token: i for i, token in enumerate(letters)}))
    else:
        return name
    save(checkpoint, scratch / name)
    return str(scratch / name)


def middle_of_longest_contig(genome: Genome, bases: int) -> tuple[str, int, int]:
    """Return a region in the middle of the longest contig: contig, start, end."""
    contig = max(genome.lengths, key=genome.lengths.get)
    start = max(0, genome.lengths[contig] // 2 - bases // 2)
    return contig, start, min(genome.lengths[contig], start + bases)


def first_bases(genome: Genome, bases: int) -> tuple[str, ...]:
    """Return regions with a given total of bases, from the longest contigs first."""
    regions = []
    for contig in sorted(genome.lengths, key=genome.lengths.get, reverse=True):
        size = min(bases, genome.lengths[contig])
        if size <= 0:
            break
        regions.append(f"{contig}:1-{size}")
        bases -= size
    return tuple(regions)


def whole_contigs(genome: Genome, bases: int) -> tuple[str, ...]:
    """Return the shortest contigs whose lengths add up to at least a given number of bases."""
    contigs, total = [], 0
    for contig in sorted(genome.lengths, key=genome.lengths.get):
        if total < bases:
            contigs.append(contig)
            total += genome.lengths[contig]
    return tuple(contigs)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the best of eight rates of a square matrix product, in operations per second."""
    size = MATRIX.get(device.type, 2048)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        synchronize(device)
        started = time.perf_counter()
        left @ right
        synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def device_name(device: torch.device) -> str:
    """Return the product name of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), device.type)


@torch.inference_mode()
def cost_per_base(module: torch.nn.Module, predictor: Predictor, genome: Genome) -> tuple[float, float]:
    """Return operations of matrix products and convolutions, and tokens, per base of a core."""
    contig, start, end = middle_of_longest_contig(genome, 200_000)
    windows = tile_windows(start, end, predictor.metadata.window, predictor.metadata.margin)[1:-1][:64]
    sequences = [genome.fetch(contig, int(w["start"]), int(w["end"])) for w in windows]
    core_bases = int((windows["core_end"] - windows["core_start"]).sum())
    cores = np.stack(
        [windows["core_start"] - windows["start"], windows["core_end"] - windows["start"]], axis=1
    )
    count, tokens = 0, 0
    for batch in predictor.batches(sequences, cores):
        tokens += len(batch.tokens.ids)
        inputs = {name: tensor.to(predictor.device) for name, tensor in batch.inputs.items()}
        # the counter knows plain attention, but not the fused attention of CPUs
        with (
            FlopCounterMode(display=False) as counter,
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        ):
            module(**inputs, core=batch.core)  # in this thread, because the counter does not see others
        count += counter.get_total_flops()
    return count / core_bases, tokens / core_bases


def annotate_regions(
    arguments: argparse.Namespace, model: str, regions: tuple[str, ...], scratch: Path
) -> dict:
    """Annotate regions in another process; return its run record and the wall time."""
    out = scratch / "track.bw"
    command = [
        sys.executable,
        "-m",
        "zflipon",
        "annotate",
        arguments.genome,
        "-o",
        out,
        "--model",
        model,
        "--force",
        "-q",
    ]
    command += ["--device", arguments.device, "--precision", arguments.precision]
    command += ["-n", arguments.num_processes] + ["--screen"] * arguments.screen
    command += [word for region in regions for word in ("--region", region)]
    started = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True)
    report = json.loads((scratch / "track.bw.json").read_text())
    return {**report, "wall": time.perf_counter() - started}


def table_row(
    megabases: float, report: dict, operations_per_base: float, tokens_per_base: float, peak: float
) -> dict:
    """Return a row of the table, from a run record."""
    seconds, read = report["seconds"], report["tracks"]["windows_read"] / max(1, report["windows"])
    strands = 1 + report["predict"]["both_strands"]
    speed = report["bases"] / seconds
    return {
        "Mb": megabases,
        "seconds": seconds,
        "Mb/s": speed / 1e6,
        "kilotokens/s": speed * tokens_per_base * read * strands / 1e3,
        **{stage: stage_seconds / seconds for stage, stage_seconds in report["seconds_in"].items()},
        "windows read": read,
        "of matrix rate": speed * operations_per_base * read * strands / peak,
        "host GiB": report["memory"]["host"] / 2**30,
        "device GiB": report["memory"]["device"] / 2**30,
    }


def print_table(rows: list[dict]) -> None:
    """Print rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(f"{row.get(name, 0):.3g}" for name in names) + " |")


def without_model(
    arguments: argparse.Namespace, model: str, contigs: tuple[str, ...], scratch: Path
) -> float:
    """Return bases per second of everything except the model, which is replaced by constant logits.

    First factors are computed once and reused, so that the same windows are skipped as with the model.
    """
    known: dict[tuple[str, ...], list[np.ndarray] | None] = {}
    compute, submit = Predictor.first_factors, Executor.submit

    def stored(self: Predictor, texts: Sequence[str]) -> list[np.ndarray] | None:
        if tuple(texts) not in known:
            known[tuple(texts)] = compute(self, texts)
        return known[tuple(texts)]

    def constant_output(self: Executor, batch: Batch) -> PendingOutput:
        rows, width = batch.inputs["input_ids"].shape
        if not self.module.decoding.per_base:
            return PendingOutput(torch.zeros(rows, width, 2))
        factors = (2,) if batch.return_factors else ()
        return PendingOutput(torch.zeros(rows, *factors, batch.inputs["bases"].shape[1]))

    Executor.submit, Predictor.first_factors = constant_output, stored
    try:
        for _ in range(2):
            report = annotate(
                arguments.genome,
                [str(scratch / "stub.bw")],
                model,
                Selection(contigs=contigs),
                settings=InferenceConfig(device=arguments.device),
                force=True,
                screen=arguments.screen,
            )
    finally:
        Executor.submit, Predictor.first_factors = submit, compute
    return report["bases"] / report["seconds"]


def peers(
    checkpoint: Checkpoint, predictor: Predictor, genome: Genome, loops: int, scratch: Path
) -> Iterator[tuple[str, float]]:
    """Yield label and bases per second of each other program, on the same number of windows."""
    contig, start, _ = middle_of_longest_contig(genome, loops * SIX_MERS * 2)
    sequences = [genome.fetch(contig, start + i * WINDOW, start + (i + 1) * WINDOW) for i in range(loops)]
    module, device = checkpoint.module, predictor.device

    @torch.inference_mode()
    def one_at_a_time() -> None:
        for sequence in sequences:
            (tokens,) = checkpoint.tokenizer.encode([sequence])
            ids = torch.from_numpy(tokens.ids)[None].to(device)
            module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.argmax(-1).cpu()

    if checkpoint.metadata.objective == "token":
        yield "(a) one window of 128 bp at a time", rate(one_at_a_time, loops * WINDOW)
        pipeline = token_pipeline(checkpoint, device)
        if pipeline is not None:
            yield (
                "(c) transformers' pipeline, batches of 32",
                rate(lambda: list(pipeline(sequences, batch_size=32)), loops * WINDOW),
            )
    six = load(resolve_model("dnabert-6mer-86m", scratch, genome))
    six_mer_module = six.module.to(device).eval()
    long_sequences = [
        genome.fetch(contig, start + i * SIX_MERS, start + (i + 1) * SIX_MERS + 5)
        for i in range(max(1, loops // 8))
    ]

    @torch.inference_mode()
    def six_mers() -> None:
        for sequence in long_sequences:
            (tokens,) = six.tokenizer.encode([sequence])
            ids = torch.from_numpy(tokens.ids[1:-1])[None].to(device)
            six_mer_module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.softmax(-1).cpu()

    yield "(b) 512 6-mers at a time, DNABERT of 86 M", rate(six_mers, len(long_sequences) * SIX_MERS)


def token_pipeline(checkpoint: Checkpoint, device: torch.device) -> Callable | None:
    """Return the pipeline of transformers with the same model; None if transformers cannot use its tokenizer."""
    from transformers import PreTrainedTokenizerFast, TokenClassificationPipeline, logging

    logging.set_verbosity_error()

    inner = getattr(checkpoint.tokenizer, "tokenizer", None)
    if inner is None:
        return None
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", model_max_length=512)
    return TokenClassificationPipeline(model=checkpoint.module, tokenizer=tokenizer, device=device)


def rate(work: Callable[[], object], bases: int) -> float:
    """Return bases per second of the second of two calls."""
    work()
    started = time.perf_counter()
    work()
    return bases / (time.perf_counter() - started)


if __name__ == "__main__":
    main()

"""Files of every kind that zflipon reads, and a command that reads each.

`build_inputs` writes all files into one folder; `CLASSES` names the file to damage, the command and its outputs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pysam
from conftest import dna, make_fasta

from robustness import oracles, runner

CONTIGS = {"chr1": 4000, "chr2": 2500, "chr3": 300}

RECIPE = """name = "small"

[data]
genome = "g.fa"
labels = "labels.bed"
validation_contigs = ["chr2"]

[tokenizer]
train = true
vocab_size = 64
max_token_length = 5

[model]
family = "compact"
shape = { hidden_size = 8, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 16 }
base_head = { channels = 4, kernel = 5, dilations = [1, 2] }

[[stage]]
name = "only"
window = 256
margin = 32
steps = 4
batch_size = 4
learning_rate = 3e-3
evaluations = 1
"""

GENES = """##gff-version 3
chr1\t.\tgene\t101\t900\t.\t+\t.\tID=g1;Name=one;gene_type=protein_coding
chr1\t.\tmRNA\t101\t900\t.\t+\t.\tID=t1;Parent=g1
chr1\t.\texon\t101\t300\t.\t+\t.\tParent=t1
chr1\t.\texon\t700\t900\t.\t+\t.\tParent=t1
chr1\t.\tCDS\t151\t300\t.\t+\t0\tParent=t1
chr2\t.\tgene\t500\t2000\t.\t-\t.\tID=g2;Name=two
"""

_ANNOTATE = ("annotate", "g.fa", "-m", "zhunt", "-o", "out.bed", "-t", "1")
_TINY = (
    "annotate",
    "g.fa",
    "-m",
    "tiny",
    "-o",
    "out.bed",
    "-t",
    "1",
    "--device",
    "cpu",
    "--precision",
    "float32",
)
_VARIANTS = ("-g", "g.fa", "-m", "zhunt", "-o", "out.vcf", "-t", "1")


@dataclass(frozen=True)
class InputClass:
    """A kind of input file.

    Attributes
    ----------
    name : str
    file : str
        The file that is damaged.
    kind : str
        Kind of damage; see `robustness.mutations.KINDS`.
    command : tuple of str
    output : str
        File or folder that the command writes; empty for standard output.
    needs : tuple of str
        Other files and folders that the command reads.
    redundant : bool
        Whether the damaged file only repeats what others state: the result must not change.
    alters_scores : bool
        Whether a valid change of the file may leave no call: it holds settings of the model.
    oracle : callable, optional
        ``oracle(damaged, folder, outcome)`` returns the fault in the result, or an empty string.
    """

    name: str
    file: str
    kind: str
    command: tuple[str, ...]
    output: str = "out.bed"
    needs: tuple[str, ...] = ("g.fa",)
    redundant: bool = False
    alters_scores: bool = False
    oracle: Callable[..., str] | None = None


def _tiny(name: str, file: str, kind: str, model: str = "tiny", redundant: bool = False) -> InputClass:
    command = tuple(model if word == "tiny" else word for word in _TINY)
    needs = ("g.fa", model, *(("base",) if model == "lora" else ()))
    return InputClass(
        name, f"{model}/{file}", kind, command, needs=needs, redundant=redundant, alters_scores=not redundant
    )


CLASSES = (
    InputClass("FASTA", "g.fa", "text", _ANNOTATE, needs=(), oracle=oracles.check_fasta),
    InputClass("FASTA, gzip", "p.fa.gz", "gzip", ("annotate", "p.fa.gz", *_ANNOTATE[2:]), needs=()),
    InputClass(
        "FASTA, bgzip", "b.bgz.fa.gz", "bgzip text", ("annotate", "b.bgz.fa.gz", *_ANNOTATE[2:]), needs=()
    ),
    InputClass("fai", "g.fa.fai", "text", _ANNOTATE, redundant=True),
    InputClass(
        "gzi",
        "b.bgz.fa.gz.gzi",
        "binary",
        ("annotate", "b.bgz.fa.gz", *_ANNOTATE[2:]),
        needs=("b.bgz.fa.gz", "b.bgz.fa.gz.fai"),
        redundant=True,
    ),
    InputClass(
        "regions BED",
        "r.bed",
        "text",
        (*_ANNOTATE, "--regions", "r.bed"),
        oracle=oracles.check_regions,
    ),
    InputClass(
        "labels BED",
        "labels.bed",
        "text",
        ("evaluate", "z.bw", "--labels", "labels.bed", "--genome", "g.fa"),
        "",
        ("z.bw", "g.fa"),
        oracle=oracles.check_labels,
    ),
    InputClass(
        "bigWig",
        "z.bw",
        "binary",
        ("evaluate", "z.bw", "--labels", "labels.bed", "--genome", "g.fa"),
        "",
        ("labels.bed", "g.fa"),
    ),
    InputClass(
        "bigWig, sidecar of it",
        "z.bw.json",
        "json",
        ("bundle", "z.bw", "--genome", "g.fa", "-o", "hub"),
        "hub",
        ("z.bw", "g.fa"),
    ),
    InputClass(
        "provenance", "z.bw.json", "json", ("provenance", "z.bw", "--genome", "g.fa"), "", ("z.bw", "g.fa")
    ),
    InputClass(
        "bedGraph",
        "z.bedgraph",
        "text",
        ("evaluate", "z.bedgraph", "--labels", "labels.bed", "--genome", "g.fa"),
        "",
        ("labels.bed", "g.fa"),
    ),
    InputClass(
        "BED of calls",
        "z.bed",
        "text",
        ("evaluate", "z.bed", "--labels", "labels.bed", "--genome", "g.fa"),
        "",
        ("labels.bed", "g.fa"),
    ),
    InputClass(
        "VCF", "v.vcf", "text", ("variants", "v.vcf", *_VARIANTS), "out.vcf", oracle=oracles.check_vcf
    ),
    InputClass("VCF, bgzip", "v.vcf.gz", "bgzip text", ("variants", "v.vcf.gz", *_VARIANTS), "out.vcf"),
    InputClass("BCF", "v.bcf", "bgzip binary", ("variants", "v.bcf", *_VARIANTS), "out.vcf"),
    InputClass(
        "table of scores",
        "scores.tsv.gz",
        "bgzip text",
        ("variants", "v.vcf", *_VARIANTS, "--table", "scores.tsv.gz"),
        "out.vcf",
        ("v.vcf", "g.fa", "scores.tsv.gz.tbi"),
        alters_scores=True,
    ),
    InputClass(
        "table of scores, Parquet",
        "scores.parquet",
        "binary",
        ("variants", "v.vcf", *_VARIANTS, "--table", "scores.parquet"),
        "out.vcf",
        ("v.vcf", "g.fa"),
        alters_scores=True,
    ),
    InputClass(
        "part of a run",
        "part1.zfp",
        "zip",
        ("merge", "part1.zfp", "part2.zfp", "-o", "out.bed"),
        needs=("part2.zfp",),
        alters_scores=True,
    ),
    InputClass(
        "calibration file", "c.json", "json", (*_ANNOTATE, "--calibration", "c.json"), alters_scores=True
    ),
    InputClass("aliases of contigs", "aliases.tsv", "text", (*_ANNOTATE, "--contig-aliases", "aliases.tsv")),
    InputClass(
        "gene annotation",
        "genes.gff3",
        "text",
        ("genes", "z.bed", "--gtf", "genes.gff3", "--shuffles", "2", "-o", "genes.tsv"),
        "genes.tsv",
        ("z.bed",),
    ),
    InputClass("bigBed of calls", "z.bb", "binary", ("compare", "z.bed", "z.bb"), "", ("z.bed",)),
    InputClass(
        "recipe",
        "r.toml",
        "text",
        ("train", "r.toml", "-o", "run", "-t", "1", "-q"),
        "run",
        ("g.fa", "labels.bed"),
    ),
    InputClass("table of tokens", "a.csv", "text", ("explain", "rank", "a.csv", "b.csv"), "", ("b.csv",)),
    InputClass(
        "regions for k-mers",
        "labels.bed",
        "text",
        ("explain", "kmers", "labels.bed", "--genome", "g.fa", "-k", "3", "--shuffles", "2"),
        "",
    ),
    InputClass(
        "table of tracks",
        "t.tsv",
        "text",
        ("annotate", "g.fa", "-m", "omics", "--features", "t.tsv", *_TINY[4:]),
        needs=("g.fa", "omics", "labels.bed", "z.bw"),
    ),
    _tiny("config.json", "config.json", "json"),
    _tiny("safetensors", "model.safetensors", "safetensors", redundant=True),
    _tiny("tokenizer.json", "tokenizer.json", "json"),
    _tiny("PyTorch weights", "pytorch_model.bin", "zip", "pickled"),
    _tiny("adapter_config.json", "adapter_config.json", "json", "lora"),
    _tiny("adapter weights", "adapter_model.safetensors", "safetensors", "lora"),
    InputClass("models show", "tiny/config.json", "json", ("models", "show", "tiny"), "", ("tiny",)),
    *(
        InputClass(
            f"journal, {name}",
            f"out.bed.unfinished/{name}",
            kind,
            _ANNOTATE,
            needs=("g.fa", "g.fa.fai", "out.bed.unfinished"),
            redundant=True,
        )
        for name, kind in (("run.json", "json"), ("000000.shard", "binary"))
    ),
)
"""All kinds of input."""


def build_inputs(folder: Path) -> None:
    """Write clean files of all kinds. A child process does it: models and processes leave state in torch."""
    child = runner.start(lambda: _build(folder), folder, 1, 2)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the clean inputs cannot be written")


def _build(folder: Path) -> int:
    rng = np.random.default_rng(1)
    contigs = {}
    for number, (name, length) in enumerate(CONTIGS.items()):
        sequence = dna(length, number)
        for start in rng.integers(0, length - 60, length // 400):
            sequence = sequence[:start] + "CG" * 12 + sequence[start + 24 :]
        contigs[name] = sequence
    contigs["chr1"] = contigs["chr1"][:1000] + "N" * 300 + contigs["chr1"][1300:].lower()
    genome = make_fasta(folder / "g.fa", contigs)
    make_fasta(folder / "p.fa.gz", contigs)
    make_fasta(folder / "b.bgz.fa.gz", contigs)
    pysam.faidx(str(genome))
    pysam.faidx(str(folder / "b.bgz.fa.gz"))
    (folder / "r.bed").write_text("chr1\t100\t900\nchr1\t2000\t3000\tname\t0\t+\nchr2\t0\t2500\n")
    (folder / "labels.bed").write_text("chr1\t200\t260\nchr1\t1500\t1600\nchr2\t400\t470\nchr3\t10\t40\n")
    (folder / "r.toml").write_text(RECIPE)
    rows = [
        f"{token},{count},{value}"
        for token, value, count in zip("ACGT", (0.5, 0.25, 0.125, 0), (9, 8, 7, 6), strict=True)
    ]
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("\n".join(["Token,Count,Score", *rows]) + "\n")
    (folder / "t.tsv").write_text("first\tlabels.bed\tbinary\nsecond\tz.bw\tbinary\n")
    (folder / "aliases.tsv").write_text("one\tchr1\ntwo\tchr2\n")
    (folder / "genes.gff3").write_text(GENES)
    _write_tracks(folder)
    _write_variants(folder, contigs)
    _write_models(folder)
    _write_unfinished_run(folder)
    return 0


def _write_tracks(folder: Path) -> None:
    import zflipon
    from zflipon.tracks.bigbed import write_calls
    from zflipon.tracks.call_files import read_calls
    from zflipon.workflows.calibration_file import write_calibration

    genome = folder / "g.fa"
    zflipon.annotate(genome, [folder / name for name in ("z.bw", "z.bedgraph", "z.bed")], model="zhunt")
    for number in (1, 2):
        zflipon.annotate(genome, folder / f"part{number}.zfp", model="zhunt", part=f"{number}/2")
    calls = read_calls(folder / "z.bed", CONTIGS)
    write_calls(folder / "z.bb", CONTIGS, calls, scored=True)
    found = zflipon.calibrate(folder / "z.bw", genome, labels=folder / "labels.bed", precision=0.01)
    write_calibration(folder / "c.json", found)


def _write_variants(folder: Path, contigs: dict[str, str]) -> None:
    header = [
        "##fileformat=VCFv4.2",
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">',
        '##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">',
        '##INFO=<ID=END,Number=1,Type=Integer,Description="End">',
        '##FILTER=<ID=low,Description="Low quality">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        *(f"##contig=<ID={name},length={len(sequence)}>" for name, sequence in contigs.items()),
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\ttwo",
    ]
    rows = []
    for number, (name, position, length, alternative) in enumerate(
        (
            ("chr1", 50, 1, "T,A"),
            ("chr1", 400, 3, "G"),
            ("chr1", 2001, 1, "CGCGCG"),
            ("chr2", 10, 1, "<DEL>"),
            ("chr2", 900, 2, "*"),
        )
    ):
        reference = contigs[name][position - 1 : position - 1 + length].upper()
        rows.append(
            f"{name}\t{position}\trs{number}\t{reference}\t{alternative}\t{30 + number}.5\tPASS\tDP={number};"
            f"AF={','.join(['0.5'] * (alternative.count(',') + 1))}{';END=60' * (alternative == '<DEL>')}\tGT\t0/1\t./."
        )
    path = folder / "v.vcf"
    path.write_text("\n".join([*header, *rows]) + "\n")
    pysam.tabix_compress(str(path), str(folder / "v.vcf.gz"), force=True)
    with (
        pysam.VariantFile(str(path)) as source,
        pysam.VariantFile(str(folder / "v.bcf"), "wb", header=source.header) as out,
    ):
        for record in source:
            out.write(record)
    import zflipon

    for name in ("scores.tsv.gz", "scores.parquet"):
        zflipon.score_variants(path, folder / "g.fa", folder / name, model="zhunt")


def _write_models(folder: Path) -> None:
    import torch

    from zflipon.config import LoraConfig
    from zflipon.models import Calibration, create, get_family, save, start
    from zflipon.models.adapters import attach
    from zflipon.models.metadata import Feature
    from zflipon.tokenization.bpe_training import train_bpe

    torch.manual_seed(3)
    tokenizer = train_bpe([dna(2000, seed) for seed in range(20)], vocab_size=64, max_token_length=5)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    head = {"channels": 8, "kernel": 5, "dilations": [1, 2], "dropout": 0.0}
    made = create("compact", "base", tokenizer, initializer_range=0.5, base_head=head, **shape)
    metadata = replace(made.metadata, window=256, margin=64, calibration=Calibration(1.0, 5.5))
    save(replace(made, metadata=metadata), folder / "tiny")
    pickled = shutil.copytree(folder / "tiny", folder / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(made.module.state_dict(), pickled / "pytorch_model.bin")
    config = json.loads((pickled / "config.json").read_text())
    for section in (config, config.get("zflipon", {})):
        section.pop("weights_sha256", None)
    (pickled / "config.json").write_text(json.dumps(config))
    omics = {"channels": 8, "context": 16, "distances": [0, 64], "omics": 8}
    made = create("compact", "base", tokenizer, **shape, features=2, base_head=omics)
    features = (Feature("first", "binary", 0.0, 1.0), Feature("second", "binary", 0.0, 1.0))
    metadata = replace(metadata, features=features)
    save(
        replace(made, metadata=replace(made.metadata, window=256, margin=64, features=features)),
        folder / "omics",
    )
    save(create("compact", "mlm", tokenizer, **shape), folder / "base")
    made = start(folder / "base", "token")
    attach(made.module, LoraConfig(r=2, alpha=4, dropout=0.0), get_family("compact").lora_targets)
    save(replace(made, metadata=replace(made.metadata, window=256, margin=64)), folder / "lora")


def _write_unfinished_run(folder: Path) -> None:
    """Leave a run that was stopped after its first shard."""
    import zflipon
    from zflipon.jobs.journal import Journal

    class _StopError(Exception):
        pass

    write = Journal.write

    def write_once(journal: Journal, number: int, content: bytes) -> None:
        write(journal, number, content)
        raise _StopError

    Journal.write = write_once
    try:
        with suppress(_StopError):
            zflipon.annotate(folder / "g.fa", folder / "out.bed", model="zhunt")
    finally:
        Journal.write = write
    assert (folder / "out.bed.unfinished" / "000000.shard").exists()

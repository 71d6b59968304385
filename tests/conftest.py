"""What several test files share: random DNA, FASTA files, a tiny tokenizer and a tiny checkpoint."""

import gzip
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pysam
import pytest

from zflipon.tokenization.bpe_training import train_bpe

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Optional folder of real genomes and tokenizers next to the repository; tests that need it are skipped without it."""

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="there is no folder 'shared' next to the repository"
)


def dna(length, seed=0, letters="ACGT"):
    """Return random letters."""
    return "".join(np.random.default_rng(seed).choice(list(letters), length))


def make_fasta(path, contigs, width=60, newline="\n"):
    """Write a FASTA; the name decides on the packing (``.bgz.fa.gz`` is bgzip, another ``.gz`` plain gzip).

    Parameters
    ----------
    path : Path
        A folder takes ``genome.fa``.
    contigs : dict of str to str
        Header without ``>`` → sequence.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "genome.fa"
    lines = []
    for header, sequence in contigs.items():
        lines += [f">{header}", *(sequence[i : i + width] for i in range(0, len(sequence), width))]
    content = "".join(line + newline for line in lines).encode()
    if path.name.endswith(".bgz.fa.gz"):
        plain = path.with_name(path.name + ".plain")
        plain.write_bytes(content)
        pysam.tabix_compress(str(plain), str(path), force=True)
        plain.unlink()
    else:
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture
def default_sigint():
    """Let SIGINT interrupt this process and those it starts, also if the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def tokenizer():
    """Return a BPE tokenizer of 64 tokens, each of at most 5 bases."""
    return train_bpe([dna(2000, seed) for seed in range(20)], vocab_size=64, max_token_length=5)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, tokenizer):
    """Return the folder of a compact base-resolution checkpoint with random weights.

    Windows of 256 with a margin of 64. The calibration is such that about a tenth of
    random DNA is called.
    """
    import torch

    from zflipon.models import Calibration, create, save

    torch.manual_seed(3)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    head = {"channels": 8, "kernel": 5, "dilations": [1, 2], "dropout": 0.0}
    made = create("compact", "base", tokenizer, initializer_range=0.5, base_head=head, **shape)
    metadata = replace(made.metadata, window=256, margin=64, calibration=Calibration(1.0, 5.5))
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    save(replace(made, metadata=metadata), folder)
    return folder


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Return a folder with a genome, labels, tracks and their bundle in ``hub``, and what `bundle` returned."""
    from report_files import write_bundle

    folder = tmp_path_factory.mktemp("bundle")
    return folder, write_bundle(folder)


@pytest.fixture(scope="session")
def viewed(tmp_path_factory, tiny_checkpoint):
    """Return a folder with a genome, plain and bgzip, its tracks by annotate, and labels."""
    from report_files import write_annotated

    folder = tmp_path_factory.mktemp("viewed")
    write_annotated(folder, tiny_checkpoint)
    return folder

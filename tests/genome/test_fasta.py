"""FASTA files of every packing and every kind of damage."""

import gzip
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyfaidx
import pysam
import pytest
from conftest import dna, make_fasta

from zflipon.errors import InputError
from zflipon.genome import fasta as genome_module
from zflipon.genome.alphabet import reverse_complement
from zflipon.genome.fasta import Genome

PACKINGS = ["genome.fa", "genome.fa.gz", "genome.bgz.fa.gz"]

CONTIGS = {
    "chr1": dna(2345, 1),
    "soft": dna(300, 2, "ACGTacgtNn"),
    "HLA:A*01|x.1 and a description": dna(61, 3),
    "void": "",
    "chr1:1-100": dna(60, 4),
    "iupac": "ACGTUNRYSWKMBDHVacgtunryswkmbdhv",
    "last": "",
}
NAMES = [header.split()[0] for header in CONTIGS]


@pytest.fixture(params=PACKINGS)
def packing(request):
    return request.param


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Return the folder of temporary files; a test that leaves any there fails."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def refusal(path):
    """Return the one line that opening the file ends with."""
    with pytest.raises(InputError) as caught:
        Genome(path).close()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


# ---- what is read -------------------------------------------------------------------------------------------


def test_names_lengths_and_sequences(tmp_path, packing):
    with Genome(make_fasta(tmp_path / packing, CONTIGS)) as genome:
        assert list(genome.lengths) == NAMES
        assert list(genome.lengths.values()) == [len(sequence) for sequence in CONTIGS.values()]
        for name, sequence in zip(NAMES, CONTIGS.values(), strict=True):
            assert genome.fetch(name, 0, len(sequence)) == sequence.upper()


def test_places_agree_with_pyfaidx(tmp_path, packing):
    path = make_fasta(tmp_path / packing, CONTIGS, width=37)
    shutil.copy(make_fasta(tmp_path / "second.fa", CONTIGS), tmp_path / "other.fa")
    rng = np.random.default_rng(0)
    with (
        Genome(path) as genome,
        pyfaidx.Fasta(str(tmp_path / "other.fa"), sequence_always_upper=True, as_raw=True) as other,
    ):
        for _ in range(200):
            name = NAMES[rng.choice([0, 1, 2, 4])]
            start, end = sorted(rng.integers(0, genome.lengths[name] + 1, 2))
            assert genome.fetch(name, start, end) == (other[name][start:end] if start < end else "")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("width", [1, 7, 60, 100_000])
def test_line_widths_and_windows_line_ends(tmp_path, packing, newline, width):
    contigs = {name: CONTIGS[name] for name in ("chr1", "soft", "void")}
    with Genome(make_fasta(tmp_path / packing, contigs, width, newline)) as genome:
        assert genome.fetch("chr1", 0, 2345) == contigs["chr1"]
        assert genome.fetch("chr1", 2340, 2345) == contigs["chr1"][2340:]
        assert genome.fetch("soft", 58, 123) == contigs["soft"][58:123].upper()
        masked = [letter.islower() for letter in contigs["soft"][58:123]]
        assert genome.soft_masked("soft", 58, 123).tolist() == masked
        assert 0 < sum(masked) < len(masked)


@pytest.mark.parametrize(
    "text",
    [
        ">a\nACGT\nAC\n\n>b\nGG\n\n\n",  # blank lines between contigs and at the end
        ">a\n\nACGT\nAC\n>b\nGG\n",
        ">a\nACGT\nAC\n>b\nGG",  # no line end at the end
        "> a\nACGT\nAC\n>b\tinfo\nGG\n",
        ">a\nACGT\r\nAC\r\n>b\nGG\r\n",  # line ends of both kinds
    ],
)
def test_loose_but_unambiguous_files(tmp_path, packing, text):
    path = make_fasta(tmp_path / packing, {})
    _rewrite(path, text)
    with Genome(path) as genome:
        assert genome.lengths == {"a": 6, "b": 2}
        assert genome.fetch("a", 0, 6) == "ACGTAC"
        assert genome.fetch("b", 0, 2) == "GG"


def _rewrite(path, text):
    if ".bgz." in path.name:
        plain = path.with_suffix(".plain")
        plain.write_text(text, newline="")
        pysam.tabix_compress(str(plain), str(path), force=True)
        plain.unlink()
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_bytes(text.encode())


@pytest.mark.parametrize("codes", ["ACGTNRYSWKMBDHV", "AACCGGTT", "N", ""])
def test_reverse_complement_twice_is_the_sequence(codes):
    assert reverse_complement(reverse_complement(codes)) == codes


def test_reverse_complement_of_codes():
    # each code stands for a set of bases; its complement for their complements
    sets = {"A": "A", "C": "C", "G": "G", "T": "T", "N": "ACGT"}
    sets |= {"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"}
    sets |= {"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"}
    code_of = {frozenset(bases): code for code, bases in sets.items()}
    pair = dict(zip("ACGT", "TGCA", strict=True))
    for code, bases in sets.items():
        assert reverse_complement(code) == code_of[frozenset(pair[base] for base in bases)]
    assert reverse_complement("AACGU") == "ACGTT"


# ---- the index ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["genome.fa", "genome.bgz.fa.gz"])
def test_index_is_that_of_samtools(tmp_path, packing):
    contigs = {**CONTIGS, "long": dna(200_000, 5)}  # several blocks; samtools refuses an empty last contig
    path = make_fasta(tmp_path / packing, contigs)
    Genome(path).close()
    ours = {suffix: _content(f"{path}{suffix}") for suffix in (".fai", ".gzi")}
    for suffix in ours:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    pysam.faidx(str(path))
    theirs = {suffix: _content(f"{path}{suffix}") for suffix in (".fai", ".gzi")}
    assert ours[".gzi"] == theirs[".gzi"]
    # what samtools notes of the lines of an empty contig says nothing
    assert [row for row in ours[".fai"].splitlines() if row.split(b"\t")[1] != b"0"] == [
        row for row in theirs[".fai"].splitlines() if row.split(b"\t")[1] != b"0"
    ]
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(".")) == []


def _content(path):
    return Path(path).read_bytes() if os.path.exists(path) else None


def test_index_is_made_beside_and_used_again(tmp_path):
    path = make_fasta(tmp_path, CONTIGS)
    Genome(path).close()
    index = tmp_path / "genome.fa.fai"
    made = index.stat().st_mtime_ns
    Genome(path).close()
    assert index.stat().st_mtime_ns == made


def test_plain_gzip_leaves_nothing_beside(tmp_path, scratch):
    path = make_fasta(tmp_path / "genome.fa.gz", CONTIGS)
    with Genome(path):
        assert len(list(scratch.iterdir())) == 1
    assert sorted(tmp_path.iterdir()) == [path, scratch]


@pytest.mark.parametrize("packing", ["genome.fa", "genome.bgz.fa.gz"])
def test_index_of_an_older_file_is_made_anew(tmp_path, packing):
    path = make_fasta(tmp_path / packing, {"chr1": dna(500, 1)})
    Genome(path).close()
    make_fasta(path, {"chr2": dna(400, 2), "chr3": dna(300, 3)}, width=50)
    later = path.stat().st_mtime + 10
    os.utime(path, (later, later))
    with Genome(path) as genome:
        assert genome.lengths == {"chr2": 400, "chr3": 300}
        assert genome.fetch("chr3", 100, 300) == dna(300, 3)[100:]


@pytest.mark.parametrize("packing", ["genome.fa", "genome.bgz.fa.gz"])
def test_index_lies_in_a_temporary_folder_where_none_can_be_written(tmp_path, packing, scratch, monkeypatch):
    path = make_fasta(tmp_path / packing, CONTIGS)
    real = os.replace

    def refuse(source, target):
        if Path(target).parent == tmp_path:
            raise PermissionError(13, "Permission denied", str(target))
        real(source, target)

    monkeypatch.setattr(genome_module.os, "replace", refuse)
    with Genome(path) as genome:
        assert len(list(scratch.iterdir())) == 1
        assert genome.fetch("chr1", 100, 200) == CONTIGS["chr1"][100:200]
    assert sorted(tmp_path.iterdir()) == sorted([path, scratch])


def test_folder_without_permission(monkeypatch):
    """As in the test before, but refused by the system; root, whom no mode stops, becomes another user."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    folder = Path(tempfile.mkdtemp())
    path = make_fasta(folder, CONTIGS)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with Genome(path) as genome:
            assert genome.fetch("chr1", 100, 200) == CONTIGS["chr1"][100:200]
        assert list(folder.iterdir()) == [path]
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


# ---- what is refused ----------------------------------------------------------------------------------------


def test_no_file(tmp_path):
    assert refusal(tmp_path / "none.fa").endswith("no such file")
    assert refusal(tmp_path).endswith("not a file")


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "''"), ("@read\nACGT\n+\nIIII\n", "'@'"), ("chr1\t0\t10\n", "'c'"), ("\n>a\nACGT\n", r"'\n'")],
)
def test_not_a_fasta(tmp_path, packing, text, found):
    path = make_fasta(tmp_path / packing, {})
    _rewrite(path, text)
    assert refusal(path).endswith(f"not a FASTA file: it should begin with '>', found {found}")


def test_duplicate_names(tmp_path, packing):
    contigs = {"chr1 one": "ACGT", "chr2": "ACGT", "chr1 two": "GGGG"}
    assert "duplicate contig name 'chr1'" in refusal(make_fasta(tmp_path / packing, contigs))


@pytest.mark.parametrize("header", ["", " ", "\x00\x01"])
def test_contig_without_a_name(tmp_path, packing, header):
    contigs = {"chr1": "ACGT", header: "ACGT"}
    assert ":3: expected '>' and the name of a contig" in refusal(make_fasta(tmp_path / packing, contigs))


def test_name_that_is_no_text(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(b">chr\xc4\nACGT\n")
    assert ":1: expected '>' and the name of a contig" in refusal(path)


@pytest.mark.parametrize("lines", ["ACGT\nAC\nACGT\n", "ACGT\nACGTA\n", "ACGT\n\nACGT\n", "AC\nACGT\n"])
def test_lines_of_unequal_length(tmp_path, packing, lines):
    path = make_fasta(tmp_path / packing, {})
    _rewrite(path, f">z\nA\n>a\n{lines}>b\nGG\n")
    assert "contig a has lines of unequal length" in refusal(path)


def test_protein_fails_at_once_in_any_contig(tmp_path, packing):
    message = refusal(make_fasta(tmp_path / packing, {"dna": "ACGT", "protein": "MKLVEF*"}))
    assert "contig protein holds '*EFL'" in message
    assert "protein file" in message


def test_foreign_letter_far_inside(tmp_path):
    with Genome(make_fasta(tmp_path, {"a": dna(5000) + "X" + dna(10)})) as genome:
        assert genome.fetch("a", 0, 5000) == dna(5000)
        with pytest.raises(InputError, match="contig a holds 'X' near base 4991"):
            genome.fetch("a", 4990, 5010)
        with pytest.raises(InputError, match="contig a holds 'X'"):
            genome.scan("a", 1)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("name", PACKINGS[1:])
def test_truncated_packed_file(tmp_path, name, kept):
    path = make_fasta(tmp_path / name, {"a": dna(300_000)})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "truncated" in refusal(path)


def test_bgzip_without_its_end_marker(tmp_path):
    path = make_fasta(tmp_path / PACKINGS[2], {"a": dna(3000)})
    path.write_bytes(path.read_bytes()[:-28])
    assert refusal(path).endswith("the bgzip file is truncated (its end marker is missing)")


@pytest.mark.parametrize("name", PACKINGS[1:])
def test_damage_in_the_middle_of_a_packed_file(tmp_path, name):
    path = make_fasta(tmp_path / name, {"a": dna(300_000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = bytes(20)
    path.write_bytes(content)
    # what was unpacked before the checksum is read may be no FASTA
    assert re.search("damaged or truncated|lines of unequal length", refusal(path))


def test_file_cut_after_it_was_indexed(tmp_path):
    path = make_fasta(tmp_path, {"a": dna(900), "b": dna(900)})
    Genome(path).close()
    stamp = path.stat()
    path.write_bytes(path.read_bytes()[:1200])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert re.search("contig b (ends early|cannot be read)", refusal(path))


def test_no_space_to_unpack(tmp_path, monkeypatch):
    path = make_fasta(tmp_path / "genome.fa.gz", CONTIGS)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(genome_module.shutil, "copyfileobj", full)
    assert "No space left on device); pack it with bgzip" in refusal(path)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (0, 11), (8, 7), (11, 11)])
def test_range_outside_the_contig(tmp_path, start, end):
    with (
        Genome(make_fasta(tmp_path, {"a": dna(10)})) as genome,
        pytest.raises(InputError, match="outside the contig, which has 10 bases"),
    ):
        genome.fetch("a", start, end)


def test_unknown_contig(tmp_path):
    with Genome(make_fasta(tmp_path, {f"chr{i}": "A" for i in range(1, 9)})) as genome:
        for call in (
            lambda: genome.fetch("1", 0, 1),
            lambda: genome.length("1"),
            lambda: genome.scan("1", 1),
        ):
            with pytest.raises(InputError, match=r"no contig '1' in .*chr1, chr2.* and 3 more"):
                call()


# ---- scan ---------------------------------------------------------------------------------------------------


def slow_segments(sequence, min_gap):
    """Cut out the runs of N that are long enough or at an end."""
    found, base = [], 0
    gaps = np.zeros(len(sequence), dtype=bool)
    while base < len(sequence):
        end = base
        while end < len(sequence) and sequence[end] in "Nn":
            end += 1
        if end - base >= min_gap or (end > base and (base == 0 or end == len(sequence))):
            gaps[base:end] = True
        base = max(end, base + 1)
    for base, gap in enumerate(gaps):
        if not gap and (base == 0 or gaps[base - 1]):
            found.append([base, base])
        if not gap:
            found[-1][1] = base + 1
    return found


def gappy(seed):
    rng = np.random.default_rng(seed)
    parts = [
        dna(rng.integers(0, 12), seed + i) + "Nn"[rng.integers(2)] * int(rng.integers(0, 9))
        for i in range(40)
    ]
    return "".join(parts[rng.integers(2) :])


@pytest.mark.parametrize("min_gap", [1, 2, 5, 8, 100])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 24])
def test_scan_against_a_slow_loop(tmp_path, monkeypatch, min_gap, chunk):
    monkeypatch.setattr(genome_module, "_CHUNK", chunk)
    contigs = {f"c{seed}": gappy(seed) for seed in range(6)}
    contigs |= {"gap": "N" * 50, "none": "", "ends": "N" + dna(30) + "NN", "one": "A", "n": "n"}
    with Genome(make_fasta(tmp_path, contigs)) as genome:
        for name, sequence in contigs.items():
            found = genome.scan(name, min_gap)
            assert found.segments.tolist() == slow_segments(sequence, min_gap)
            assert found.segments.shape[1:] == (2,)
            assert found.segments.dtype == np.int64
            assert found.md5 == hashlib.md5(sequence.upper().encode()).hexdigest()


def test_gap_of_exactly_the_least_length(tmp_path):
    with Genome(make_fasta(tmp_path, {"a": "ACGT" + "N" * 10 + "ACGT"})) as genome:
        assert genome.scan("a", 10).segments.tolist() == [[0, 4], [14, 18]]
        assert genome.scan("a", 11).segments.tolist() == [[0, 18]]

"""FASTA files: plain, gzip and bgzip; indexes; damaged and invalid files."""

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

COMPRESSIONS = ["genome.fa", "genome.fa.gz", "genome.bgz.fa.gz"]

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


@pytest.fixture(params=COMPRESSIONS)
def compression(request):
    return request.param


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Return the folder of temporary files; a test that leaves any there fails."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def error_message(path):
    """Return the one-line message of the error that opening the file raises."""
    with pytest.raises(InputError) as caught:
        Genome(path).close()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


# ---- reading -------------------------------------------------------------------------------------------


def test_names_lengths_and_sequences(tmp_path, compression):
    with Genome(make_fasta(tmp_path / compression, CONTIGS)) as genome:
        assert list(genome.lengths) == NAMES
        assert list(genome.lengths.values()) == [len(sequence) for sequence in CONTIGS.values()]
        for name, sequence in zip(NAMES, CONTIGS.values(), strict=True):
            assert genome.fetch(name, 0, len(sequence)) == sequence.upper()


def test_random_ranges_agree_with_pyfaidx(tmp_path, compression):
    path = make_fasta(tmp_path / compression, CONTIGS, width=37)
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
def test_line_widths_and_windows_line_ends(tmp_path, compression, newline, width):
    contigs = {name: CONTIGS[name] for name in ("chr1", "soft", "void")}
    with Genome(make_fasta(tmp_path / compression, contigs, width, newline)) as genome:
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
def test_loose_but_unambiguous_files(tmp_path, compression, text):
    path = make_fasta(tmp_path / compression, {})
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
    # a code is a set of bases; the complement of the code is the set of their complements
    sets = {"A": "A", "C": "C", "G": "G", "T": "T", "N": "ACGT"}
    sets |= {"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"}
    sets |= {"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG"}
    code_of = {frozenset(bases): code for code, bases in sets.items()}
    pair = dict(zip("ACGT", "TGCA", strict=True))
    for code, bases in sets.items():
        assert reverse_complement(code) == code_of[frozenset(pair[base] for base in bases)]
    assert reverse_complement("AACGU") == "ACGTT"


# ---- the index ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["genome.fa", "genome.bgz.fa.gz"])
def test_index_is_that_of_samtools(tmp_path, compression):
    # several blocks; htslib leaves out empty contigs, see the next test
    contigs = {name: text for name, text in CONTIGS.items() if text} | {"long": dna(200_000, 5)}
    path = make_fasta(tmp_path / compression, contigs)
    Genome(path).close()
    ours = {suffix: _content(f"{path}{suffix}") for suffix in (".fai", ".gzi")}
    for suffix in ours:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    pysam.faidx(str(path))
    theirs = {suffix: _content(f"{path}{suffix}") for suffix in (".fai", ".gzi")}
    assert ours[".gzi"] == theirs[".gzi"]
    assert ours[".fai"] == theirs[".fai"]
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(".")) == []


def test_bgzip_with_empty_contigs_is_read_from_a_regular_copy(tmp_path, scratch):
    path = make_fasta(tmp_path / "genome.bgz.fa.gz", CONTIGS)
    with Genome(path) as genome:
        assert list(genome.lengths) == NAMES
        assert genome.files.text.parent.parent == scratch
    assert sorted(tmp_path.iterdir()) == [path, scratch]


def _content(path):
    return Path(path).read_bytes() if os.path.exists(path) else None


def test_index_is_written_once(tmp_path):
    path = make_fasta(tmp_path, CONTIGS)
    Genome(path).close()
    index = tmp_path / "genome.fa.fai"
    written = index.stat().st_mtime_ns
    Genome(path).close()
    assert index.stat().st_mtime_ns == written


def test_plain_gzip_leaves_no_index(tmp_path, scratch):
    path = make_fasta(tmp_path / "genome.fa.gz", CONTIGS)
    with Genome(path):
        assert len(list(scratch.iterdir())) == 1
    assert sorted(tmp_path.iterdir()) == [path, scratch]


@pytest.mark.parametrize("compression", ["genome.fa", "genome.bgz.fa.gz"])
def test_index_of_an_older_file_is_rebuilt(tmp_path, compression):
    path = make_fasta(tmp_path / compression, {"chr1": dna(500, 1)})
    Genome(path).close()
    make_fasta(path, {"chr2": dna(400, 2), "chr3": dna(300, 3)}, width=50)
    later = path.stat().st_mtime + 10
    os.utime(path, (later, later))
    with Genome(path) as genome:
        assert genome.lengths == {"chr2": 400, "chr3": 300}
        assert genome.fetch("chr3", 100, 300) == dna(300, 3)[100:]


@pytest.mark.parametrize("compression", ["genome.fa", "genome.bgz.fa.gz"])
def test_index_is_temporary_if_the_folder_is_read_only(tmp_path, compression, scratch, monkeypatch):
    path = make_fasta(tmp_path / compression, CONTIGS)
    os_replace = os.replace

    def refuse(source, target):
        if Path(target).parent == tmp_path:
            raise PermissionError(13, "Permission denied", str(target))
        os_replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with Genome(path) as genome:
        assert len(list(scratch.iterdir())) == 1
        assert genome.fetch("chr1", 100, 200) == CONTIGS["chr1"][100:200]
    assert sorted(tmp_path.iterdir()) == sorted([path, scratch])


def test_folder_without_permission(monkeypatch):
    """As the test above, with real permissions; root, who may write anywhere, becomes another user."""
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


# ---- invalid files ----------------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    assert error_message(tmp_path / "none.fa").endswith("no such file")
    assert error_message(tmp_path).endswith("not a regular file")


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "''"), ("@read\nACGT\n+\nIIII\n", "'@'"), ("chr1\t0\t10\n", "'c'"), ("\n>a\nACGT\n", r"'\n'")],
)
def test_not_a_fasta(tmp_path, compression, text, found):
    path = make_fasta(tmp_path / compression, {})
    _rewrite(path, text)
    assert error_message(path).endswith(f"not a FASTA file: expected '>' at its start, found {found}")


def test_duplicate_names(tmp_path, compression):
    contigs = {"chr1 one": "ACGT", "chr2": "ACGT", "chr1 two": "GGGG"}
    assert "duplicate contig name 'chr1'" in error_message(make_fasta(tmp_path / compression, contigs))


@pytest.mark.parametrize("header", ["", " ", "\x00\x01"])
def test_contig_without_a_name(tmp_path, compression, header):
    contigs = {"chr1": "ACGT", header: "ACGT"}
    assert ":3: expected '>' and the name of a contig" in error_message(
        make_fasta(tmp_path / compression, contigs)
    )


def test_name_that_is_not_utf8(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(b">chr\xc4\nACGT\n")
    assert ":1: expected '>' and the name of a contig" in error_message(path)


@pytest.mark.parametrize("end", ["", "\n\n>b\nAC\n"])
def test_sequence_that_is_not_ascii(tmp_path, end):
    (tmp_path / "a.fa").write_bytes(b">a\nACGT\nAC\xc3T\n" + end.encode())
    assert "a.fa:3: byte 0xc3 in the sequence of contig a, expected letters" in error_message(
        tmp_path / "a.fa"
    )


@pytest.mark.parametrize("lines", ["ACGT\nAC\nACGT\n", "ACGT\nACGTA\n", "ACGT\n\nACGT\n", "AC\nACGT\n"])
def test_lines_of_unequal_length(tmp_path, compression, lines):
    path = make_fasta(tmp_path / compression, {})
    _rewrite(path, f">z\nA\n>a\n{lines}>b\nGG\n")
    assert "contig a has lines of unequal length" in error_message(path)


def test_protein_is_an_error_when_opened(tmp_path, compression):
    message = error_message(make_fasta(tmp_path / compression, {"dna": "ACGT", "protein": "MKLVEF*"}))
    assert "contig protein holds '*EFL'" in message
    assert "protein file" in message


def test_invalid_letter_far_inside(tmp_path):
    with Genome(make_fasta(tmp_path, {"a": dna(5000) + "X" + dna(10)})) as genome:
        assert genome.fetch("a", 0, 5000) == dna(5000)
        with pytest.raises(InputError, match="contig a holds 'X' near base 4991"):
            genome.fetch("a", 4990, 5010)
        with pytest.raises(InputError, match="contig a holds 'X'"):
            genome.scan("a", 1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("name", COMPRESSIONS[1:])
def test_truncated_compressed_file(tmp_path, name, share):
    path = make_fasta(tmp_path / name, {"a": dna(300_000)})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated" in error_message(path)


def test_bgzip_without_its_end_marker(tmp_path):
    path = make_fasta(tmp_path / COMPRESSIONS[2], {"a": dna(3000)})
    path.write_bytes(path.read_bytes()[:-28])
    assert error_message(path).endswith("the bgzip file is truncated (its end marker is missing)")


@pytest.mark.parametrize("name", COMPRESSIONS[1:])
def test_damage_in_the_middle_of_a_compressed_file(tmp_path, name):
    path = make_fasta(tmp_path / name, {"a": dna(300_000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = bytes(20)
    path.write_bytes(content)
    # the part before the damage may already be an invalid FASTA
    assert re.search("damaged or truncated|lines of unequal length", error_message(path))


def test_file_cut_after_it_was_indexed(tmp_path):
    path = make_fasta(tmp_path, {"a": dna(900), "b": dna(900)})
    Genome(path).close()
    stamp = path.stat()
    path.write_bytes(path.read_bytes()[:1200])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert re.search("contig b (ends early|cannot be read)", error_message(path))


def test_no_space_to_unpack(tmp_path, monkeypatch):
    path = make_fasta(tmp_path / "genome.fa.gz", CONTIGS)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert "No space left on device); compress it with bgzip" in error_message(path)


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


def test_byte_order_mark_is_named(tmp_path, compression):
    path = make_fasta(tmp_path / compression, {})
    _rewrite(path, "\ufeff>a\nACGT\n")
    assert "begins with a UTF-8 byte-order mark" in error_message(path)


def test_lines_that_end_in_carriage_returns(tmp_path):
    path = tmp_path / "mac.fa"
    path.write_bytes(b">chr1\rACGTACGT\rACGT\r")
    assert "lines end in carriage returns alone" in error_message(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:-1],  # a new contig at the end
        lambda rows: [rows[0], *rows[2:]],  # a new contig in the middle
        lambda rows: [rows[0].replace("\t500\t", "\t400\t"), *rows[1:]],  # a wrong length
        lambda rows: [rows[0].replace("one", "eno"), *rows[1:]],  # another name
        lambda rows: [rows[0].replace("\t500\t", f"\t{2**63}\t"), *rows[1:]],
        lambda rows: [rows[1], rows[0], rows[2]],  # another order: contigs are written in that of the index
        lambda rows: [rows[0].replace("\t500\t", "\t5_00\t"), *rows[1:]],  # a number for Python alone
        lambda rows: ["one\t500\tx\t60\t61"],
        lambda rows: ["one"],
        lambda rows: [],
    ],
)
@pytest.mark.parametrize("name", ["genome.fa", "genome.bgz.fa.gz"])
def test_index_that_does_not_fit_is_rebuilt(tmp_path, name, change):
    path = make_fasta(tmp_path / name, {"one": dna(500, 1), "two": dna(300, 2), "three": dna(70, 3)})
    Genome(path).close()
    index = Path(f"{path}.fai")
    correct = index.read_text()
    index.write_text("".join(f"{row}\n" for row in change(correct.splitlines())))
    with Genome(path) as genome:
        assert genome.lengths == {"one": 500, "two": 300, "three": 70}
        assert genome.fetch("three", 0, 70) == dna(70, 3)
    assert index.read_text() == correct


def test_index_of_a_replaced_file_is_rebuilt(tmp_path):
    path = make_fasta(tmp_path, {"a": dna(900, 1)})
    Genome(path).close()
    make_fasta(path, {"new": dna(850, 2)})
    earlier = path.stat().st_mtime - 10
    os.utime(path, (earlier, earlier))
    with Genome(path) as genome:
        assert genome.lengths == {"new": 850}


def test_an_index_is_not_written_through_a_link(tmp_path):
    path = make_fasta(tmp_path, {"a": dna(100, 1)})
    precious = tmp_path / "precious"
    precious.write_text("keep")
    Path(f"{path}.fai").symlink_to(precious)
    with Genome(path) as genome:
        assert genome.lengths == {"a": 100}
    assert precious.read_text() == "keep"


# ---- scan ---------------------------------------------------------------------------------------------------


def reference_segments(sequence, min_gap):
    """Split at runs of N that are long enough or at an end, base by base."""
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
def test_scan_equals_a_loop_over_bases(tmp_path, monkeypatch, min_gap, chunk):
    monkeypatch.setattr(genome_module, "_SCAN_BASES", chunk)
    contigs = {f"c{seed}": gappy(seed) for seed in range(6)}
    contigs |= {"gap": "N" * 50, "none": "", "ends": "N" + dna(30) + "NN", "one": "A", "n": "n"}
    with Genome(make_fasta(tmp_path, contigs)) as genome:
        for name, sequence in contigs.items():
            found = genome.scan(name, min_gap)
            assert found.segments.tolist() == reference_segments(sequence, min_gap)
            assert found.segments.shape[1:] == (2,)
            assert found.segments.dtype == np.int64
            assert found.md5 == hashlib.md5(sequence.upper().encode()).hexdigest()


def test_gap_of_exactly_the_minimum_length(tmp_path):
    with Genome(make_fasta(tmp_path, {"a": "ACGT" + "N" * 10 + "ACGT"})) as genome:
        assert genome.scan("a", 10).segments.tolist() == [[0, 4], [14, 18]]
        assert genome.scan("a", 11).segments.tolist() == [[0, 18]]

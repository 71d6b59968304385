"""Contig names of files, translated to those of a genome."""

import pytest
from conftest import dna, make_fasta

from zflipon.errors import InputError
from zflipon.genome.assemblies import ASSEMBLIES
from zflipon.genome.chromosomes import CHROMOSOMES
from zflipon.genome.fasta import Genome
from zflipon.genome.interval_files import read_bed
from zflipon.genome.intervals import parse_region
from zflipon.genome.names import ContigLengths, aliases_by_digest, read_aliases, reconcile

HG19 = {"chr1": 249_250_621, "chr22": 51_304_566, "chrM": 16_571, "chrX": 155_270_560}

PUBLISHED = {  # from assembly reports of NCBI
    ("hg19", "chr7"): ("7", "NC_000007.13", "CM000669.1", 159_138_663),
    ("hg38", "chrX"): ("X", "NC_000023.11", "CM000685.2", 156_040_895),
    ("hs1", "chr22"): ("22", "NC_060946.1", "CP068256.2", 51_324_926),
    ("hs1", "chrY"): ("Y", "NC_060948.1", "CP086569.2", 62_460_029),
    ("mm10", "chr19"): ("19", "NC_000085.6", "CM001012.2", 61_431_566),
    ("mm39", "chrY"): ("Y", "NC_000087.8", "CM001014.3", 91_455_967),
    ("mm39", "chr10"): ("10", "NC_000076.7", "CM001003.3", 130_530_862),
}


@pytest.mark.parametrize(("assembly", "name"), PUBLISHED)
def test_the_tables_have_published_names(assembly, name):
    (chromosome,) = [each for each in CHROMOSOMES if each.assembly == assembly and name in each.names]
    *names, length = PUBLISHED[assembly, name]
    assert chromosome == (assembly, length, (name, *names))


def test_the_tables_agree_with_the_recognised_assemblies_and_have_no_name_twice():
    first = {each.length: each.assembly for each in CHROMOSOMES if "chr1" in each.names}
    assert first == ASSEMBLIES
    for assembly in ASSEMBLIES.values():
        names = [name for each in CHROMOSOMES if each.assembly == assembly for name in each.names]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "contig"),
    [("1", "chr1"), ("NC_000001.10", "chr1"), ("CM000684.1", "chr22"), ("chrX", "chrX"), ("X", "chrX")],
)
def test_names_of_an_assembly_are_translated(name, contig):
    assert reconcile("x.bed", [name], HG19) == {name: contig}


@pytest.mark.parametrize("name", ["NC_000001.11", "CM000663.2", "NC_060925.1", "chr23", "GL000192.1", ""])
def test_names_of_another_assembly_stay_unknown(name):
    assert reconcile("x.bed", [name], HG19) == {}


def test_mt_is_not_chrm_of_hg19_but_is_elsewhere():
    assert reconcile("x.bed", ["MT", "NC_012920.1", "NC_001807.4"], HG19) == {"NC_001807.4": "chrM"}
    assert reconcile("x.bed", ["MT"], {"chr1": 248_956_422, "chrM": 16_569}) == {"MT": "chrM"}
    assert reconcile("x.bed", ["chrM"], {"1": 1000, "MT": 300}) == {"chrM": "MT"}


def test_two_names_of_one_contig_in_a_file_are_an_error():
    with pytest.raises(InputError, match=r"x.bed: chr1 and 1 are both names of chr1; leave one"):
        reconcile("x.bed", ["chr1", "1"], HG19)


def test_a_name_of_several_contigs_is_an_error():
    lengths = {"chr1": 249_250_621, "1": 249_250_621}
    assert reconcile("x.bed", ["chr1", "1"], lengths) == {"chr1": "chr1", "1": "1"}
    with pytest.raises(InputError, match=r"'NC_000001.10' may be 1 or chr1 of the genome; rename it"):
        reconcile("x.bed", ["NC_000001.10"], lengths)


@pytest.mark.parametrize(
    "text",
    [
        "# sequenceName\talias names\tUCSC database: x\nchrA\tA\tNC_1.1\nchrB\tB\t\tNC_2.1\n",
        "# alias\tchrom\tsource\nA\tchrA\tensembl\nNC_1.1\tchrA\trefseq\nB\tchrB\tensembl\nNC_2.1\tchrB\trefseq\n",
    ],
    ids=["names", "sources"],
)
def test_alias_files_of_both_kinds(text, tmp_path):
    (tmp_path / "alias.txt").write_text(text)
    lengths = ContigLengths({"A": 10, "chrB": 20}, read_aliases(tmp_path / "alias.txt"))
    assert reconcile("x.bed", ["NC_1.1", "B", "ensembl"], lengths) == {"NC_1.1": "A", "B": "chrB"}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "chr1\n", "chr1 1\n"])
def test_a_file_without_aliases_is_refused(text, tmp_path):
    (tmp_path / "alias.txt").write_text(text)
    with pytest.raises(InputError, match=r"alias.txt"):
        read_aliases(tmp_path / "alias.txt")


def test_contigs_are_matched_by_sequence():
    recorded = {
        "one": {"length": 5, "md5": "a"},
        "two": {"length": 5, "md5": "b"},
        "three": {"length": 9, "md5": "a"},
    }
    lengths = {"I": 5, "II": 5, "III": 5}
    assert aliases_by_digest(recorded, lengths, {"I": "a", "II": "c", "III": "c"}) == [("one", "I")]
    assert aliases_by_digest(recorded, lengths, {"I": "a", "II": "a"}) == []  # either could be meant


def test_regions_and_bed_files_use_other_names(tmp_path, caplog):
    genome = make_fasta(tmp_path, {"chr1": dna(500, 1), "scaffold7": dna(300, 2)})
    (tmp_path / "x.bed").write_text("1\t10\t20\nNW_7.1\t5\t9\n")
    (tmp_path / "alias.txt").write_text("scaffold7\tNW_7.1\n")
    with Genome(genome, tmp_path / "alias.txt") as source, caplog.at_level("INFO", "zflipon"):
        assert parse_region("1:11-20", source.lengths) == ("chr1", 10, 20)
        intervals = read_bed(tmp_path / "x.bed", source.lengths)
    assert {name: rows.tolist() for name, rows in intervals.items()} == {
        "chr1": [[10, 20]],
        "scaffold7": [[5, 9]],
    }
    assert "x.bed: 2 contig names translated (1 to chr1, NW_7.1 to scaffold7)" in caplog.text

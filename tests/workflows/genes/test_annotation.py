"""GTF and GFF3 of several sources give the same genes; damaged and foreign files are refused with one line."""

import gzip

import pytest

from zflipon.errors import InputError
from zflipon.workflows.genes.annotation import read_annotation
from zflipon.workflows.genes.gff_rows import read_gff_rows

GENCODE = """\
##description: evidence-based annotation
##provider: GENCODE
chr1\tHAVANA\tgene\t101\t1000\t.\t-\t.\tgene_id "ENSG1.2"; gene_type "protein_coding"; gene_name "ONE"; level 2;
chr1\tHAVANA\ttranscript\t101\t1000\t.\t-\t.\tgene_id "ENSG1.2"; transcript_id "ENST1.1"; gene_name "ONE";
chr1\tHAVANA\texon\t801\t1000\t.\t-\t.\tgene_id "ENSG1.2"; transcript_id "ENST1.1"; gene_name "ONE";
chr1\tHAVANA\tCDS\t801\t900\t.\t-\t0\tgene_id "ENSG1.2"; transcript_id "ENST1.1"; gene_name "ONE";
chr1\tHAVANA\tstart_codon\t898\t900\t.\t-\t0\tgene_id "ENSG1.2"; transcript_id "ENST1.1"; gene_name "ONE";
chr1\tHAVANA\texon\t101\t300\t.\t-\t.\tgene_id "ENSG1.2"; transcript_id "ENST1.1"; gene_name "ONE";
chr1\tHAVANA\tCDS\t204\t300\t.\t-\t0\tgene_id "ENSG1.2"; transcript_id "ENST1.1"; gene_name "ONE";
chr1\tHAVANA\tstop_codon\t201\t203\t.\t-\t0\tgene_id "ENSG1.2"; transcript_id "ENST1.1"; gene_name "ONE";
chr1\tHAVANA\tUTR\t101\t203\t.\t-\t.\tgene_id "ENSG1.2"; transcript_id "ENST1.1"; gene_name "ONE";
"""

ENSEMBL = """\
##gff-version 3
##sequence-region   1 1 5000
#!genome-build GRCh38.p14
1\tGRCh38\tchromosome\t1\t5000\t.\t.\t.\tID=chromosome:1;Alias=CM000663.2
###
1\tensembl_havana\tgene\t101\t1000\t.\t-\t.\tID=gene:ENSG1;Name=ONE;biotype=protein_coding;gene_id=ENSG1;version=2
1\tensembl_havana\tmRNA\t101\t1000\t.\t-\t.\tID=transcript:ENST1;Parent=gene:ENSG1;Name=ONE-201;biotype=protein_coding
1\tensembl_havana\tthree_prime_UTR\t101\t200\t.\t-\t.\tParent=transcript:ENST1
1\tensembl_havana\texon\t101\t300\t.\t-\t.\tParent=transcript:ENST1;Name=ENSE1
1\tensembl_havana\tCDS\t201\t300\t.\t-\t0\tID=CDS:ENSP1;Parent=transcript:ENST1
1\tensembl_havana\tCDS\t801\t900\t.\t-\t0\tID=CDS:ENSP1;Parent=transcript:ENST1
1\tensembl_havana\texon\t801\t1000\t.\t-\t.\tParent=transcript:ENST1;Name=ENSE2
###
"""

REFSEQ = """\
##gff-version 3
#!gff-spec-version 1.21
##sequence-region NC_000001.11 1 5000
NC_000001.11\tRefSeq\tregion\t1\t5000\t.\t+\t.\tID=NC_000001.11:1..5000;Dbxref=taxon:9606;Name=1
NC_000001.11\tBestRefSeq\tgene\t101\t1000\t.\t-\t.\tID=gene-ONE;Dbxref=GeneID:1;Name=ONE;gene=ONE;gene_biotype=protein_coding
NC_000001.11\tBestRefSeq\tmRNA\t101\t1000\t.\t-\t.\tID=rna-NM_1.1;Parent=gene-ONE;Name=NM_1.1;gene=ONE
NC_000001.11\tBestRefSeq\texon\t801\t1000\t.\t-\t.\tID=exon-NM_1.1-1;Parent=rna-NM_1.1;gene=ONE
NC_000001.11\tBestRefSeq\texon\t101\t300\t.\t-\t.\tID=exon-NM_1.1-2;Parent=rna-NM_1.1;gene=ONE
NC_000001.11\tBestRefSeq\tCDS\t801\t900\t.\t-\t0\tID=cds-NP_1.1;Parent=rna-NM_1.1;gene=ONE
NC_000001.11\tBestRefSeq\tCDS\t201\t300\t.\t-\t0\tID=cds-NP_1.1;Parent=rna-NM_1.1;gene=ONE
NC_000001.11\tRefSeqFE\tenhancer\t3001\t3100\t.\t.\t.\tID=id-GeneID:2;Dbxref=GeneID:2
"""

UCSC = "".join(
    line + "\n"
    for line in GENCODE.replace("ENSG1.2", "ONE").splitlines()
    if "\tgene\t" not in line and "\ttranscript\t" not in line
)
"""A GTF of genePredToGtf has neither genes nor transcripts."""

PARTS = [(100, 200, "3'UTR"), (200, 300, "exon"), (800, 900, "exon"), (900, 1000, "5'UTR")]


def read(tmp_path, text, name="genes.gtf"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_annotation(path)


def parts_of(annotation):
    return sorted(annotation.parts[["start", "end", "part"]].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("text", "contig", "identifier", "kind", "lengths"),
    [
        (GENCODE, "chr1", "ENSG1.2", "protein_coding", {}),
        (ENSEMBL, "1", "ENSG1", "protein_coding", {"1": 5000}),
        (REFSEQ, "NC_000001.11", "ONE", "protein_coding", {"NC_000001.11": 5000}),
        (UCSC, "chr1", "ONE", "", {}),
    ],
    ids=["GENCODE", "Ensembl", "RefSeq", "UCSC"],
)
@pytest.mark.parametrize("order", ["sorted", "reversed"])
def test_all_sources_give_the_same_gene(tmp_path, text, contig, identifier, kind, lengths, order):
    lines = text.splitlines(keepends=True)
    comments, rows = ([line for line in lines if line.startswith("#") is wanted] for wanted in (True, False))
    annotation = read(tmp_path, "".join(comments + (rows if order == "sorted" else rows[::-1])), "genes.gz")
    (gene,) = annotation.genes.to_dict("records")
    assert gene == {
        "contig": contig, "start": 100, "end": 1000, "strand": "-", "gene_id": identifier, "gene": "ONE",
        "gene_type": kind,
    }  # fmt: skip
    assert annotation.transcripts["tss"].tolist() == [999]
    assert parts_of(annotation) == PARTS
    assert annotation.lengths == lengths


@pytest.mark.parametrize("text", [GENCODE, ENSEMBL, REFSEQ], ids=["GENCODE", "Ensembl", "RefSeq"])
def test_the_size_of_blocks_makes_no_difference(tmp_path, text):
    (tmp_path / "genes.gtf").write_text(text)
    whole = read_gff_rows(tmp_path / "genes.gtf")
    cut = read_gff_rows(tmp_path / "genes.gtf", block=70)
    assert cut.lengths == whole.lengths
    assert len(cut.table) == len(whole.table)
    assert cut.table["start"].to_pylist() == whole.table["start"].to_pylist()


def test_exons_with_several_parents_and_genes_without_transcripts(tmp_path):
    text = (
        "##gff-version 3\n"
        "c\tx\tgene\t1\t500\t.\t+\t.\tID=g1;Name=A%3BB\n"
        "c\tx\tmRNA\t1\t500\t.\t+\t.\tID=t1;Parent=g1\n"
        "c\tx\tlnc_RNA\t101\t500\t.\t+\t.\tID=t2;Parent=g1\n"
        "c\tx\texon\t101\t200\t.\t+\t.\tParent=t1,t2\n"
        "c\tx\tCDS\t151\t200\t.\t+\t0\tParent=t1\n"
        "c\tx\tpseudogene\t801\t900\t.\t-\t.\tID=g2\n"
        "c\tx\ttRNA\t1001\t1070\t.\t-\t.\tID=trna1\n"
        "c\tx\tgene\t2001\t2900\t.\t+\t.\tID=g3\n"
        "c\tx\tCDS\t2001\t2900\t.\t+\t0\tID=cds3;Parent=g3\n"
        "##FASTA\n>c\nACGTACGT\n"
    )
    annotation = read(tmp_path, text, "genes.gff3")
    assert annotation.genes["gene"].tolist() == ["A;B", "g2", "trna1", "g3"]
    assert sorted(annotation.transcripts["tss"]) == [0, 100, 899, 1069, 2000]
    assert parts_of(annotation) == [
        (100, 150, "5'UTR"), (100, 200, "exon"), (150, 200, "exon"), (800, 900, "exon"), (1000, 1070, "exon"),
        (2000, 2900, "exon"),
    ]  # fmt: skip


def test_one_gene_on_two_contigs_is_two_genes(tmp_path):
    text = "".join(
        f'{contig}\tx\texon\t{start}\t{start + 9}\t.\t+\t.\tgene_id "G"; transcript_id "T";\n'
        for contig, start in (("chrX", 11), ("chrY", 51))
    )
    assert read(tmp_path, text).genes[["contig", "start", "end"]].to_numpy().tolist() == [
        ["chrX", 10, 20], ["chrY", 50, 60],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t5\t15\tZ1\n", r"genes.gtf:1: expected GTF or GFF3 \(nine columns"),
        (GENCODE + "chr1\tHAVANA\tex", r"genes.gtf:12: expected GTF or GFF3.*found 'chr1"),
        (GENCODE.replace("\t801\t1000", "\t801\tmany"), r"genes.gtf: .*many.*column 5 \(end\)"),
        (GENCODE.replace("\t801\t1000", "\t0\t1000"), "expected 1 ≤ start ≤ end"),
        (GENCODE.replace("\t801\t1000", "\t1001\t1000"), "expected 1 ≤ start ≤ end"),
        (
            "chr1\tx\trepeat_region\t5\t9\t.\t+\t.\tID=r1\n",
            "no genes; expected rows of .*found repeat_region",
        ),
        ("chr1\tx\texon\t5\t9\t.\t+\t.\tsomething\n", "neither attributes of GTF"),
        ('chr1\tx\texon\t5\t9\t.\t+\t.\tname "x";\n', "no row names its gene"),
        ("gene\tchrom\tstart\n", "expected GTF or GFF3"),
        ("# a comment\n", "no genes"),
        ("", "no genes"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_a_truncated_gzip_is_refused(tmp_path):
    packed = gzip.compress((GENCODE * 50).encode())
    (tmp_path / "genes.gtf.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_annotation(tmp_path / "genes.gtf.gz")


def test_control_characters_in_names_stay_escaped(tmp_path):
    text = "c\tx\tgene\t1\t50\t.\t+\t.\tID=g1;Name=A%09B%0AC\n"
    assert read(tmp_path, text, "genes.gff3").genes["gene"].tolist() == ["A\\tB\\nC"]


def test_quoted_values_may_have_a_semicolon(tmp_path):
    text = 'c\tx\texon\t1\t50\t.\t+\t.\tgene_id "g;1"; transcript_id t1; gene_name "A; B";\n'
    (gene,) = read(tmp_path, text).genes[["gene_id", "gene"]].to_dict("records")
    assert gene == {"gene_id": "g;1", "gene": "A; B"}


def test_a_gff3_without_names_of_features_has_no_genes(tmp_path):
    with pytest.raises(InputError, match="no genes; expected rows of genes"):
        read(tmp_path, "c\tx\texon\t1\t50\t.\t+\t.\tnote=a\n", "genes.gff3")


@pytest.mark.parametrize("row", [b'c\tx\texon\t1\t50\t.\t+\t.\tgene_id "\xe9";\n', b"c\xe9\tx\n"])
def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path, capfd, row):
    path = tmp_path / "genes.gtf"
    path.write_bytes(b'#\nc\tx\texon\t1\t50\t.\t+\t.\tgene_id "g";\n' + row)
    with pytest.raises(InputError, match=r"genes\.gtf:3: expected UTF-8, found the byte 0xe9"):
        read_annotation(path)
    assert not capfd.readouterr().err

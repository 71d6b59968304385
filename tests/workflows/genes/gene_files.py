"""Random annotations and calls, and the same answers by slow loops over bases."""

import numpy as np

LENGTHS = {"chr1": 3000, "chr2": 2000}


def write_gtf(path, genes, prefix="", with_genes=True):
    """Write genes in the style of GENCODE.

    Parameters
    ----------
    genes : list of dict
        ``contig``, ``strand``, ``id`` and ``transcripts``, a list of (exons, cds): lists of (start, end), 0-based, and
        (start, end) or None.
    """
    lines = ["##description: test\n"]
    for gene in genes:
        contig = prefix + gene["contig"] if prefix else gene["contig"]

        def row(feature, start, end, attributes, contig=contig, gene=gene):
            tags = (
                f'gene_id "{gene["id"]}"; {attributes}gene_type "lncRNA"; gene_name "N{gene["id"]}"; level 2;'
            )
            lines.append(f"{contig}\tX\t{feature}\t{start + 1}\t{end}\t.\t{gene['strand']}\t.\t{tags}\n")

        edges = [edge for exons, _ in gene["transcripts"] for exon in exons for edge in exon]
        if with_genes:
            row("gene", min(edges), max(edges), "")
        for number, (exons, cds) in enumerate(gene["transcripts"]):
            name = f'transcript_id "{gene["id"]}.{number}"; '
            row("transcript", exons[0][0], exons[-1][1], name)
            for start, end in exons:
                row("exon", start, end, name)
                if cds and max(start, cds[0]) < min(end, cds[1]):
                    row("CDS", max(start, cds[0]), min(end, cds[1]), name)
    path.write_text("".join(lines))
    return path


def random_genes(seed, number=12):
    """Return genes with one to three transcripts of one to four exons; about half are coding."""
    rng = np.random.default_rng(seed)
    genes = []
    for index in range(number):
        contig = str(rng.choice(list(LENGTHS)))
        transcripts = []
        for _ in range(rng.integers(1, 4)):
            offset = int(rng.integers(0, LENGTHS[contig] - 700))
            edges = np.sort(rng.choice(600, 2 * int(rng.integers(1, 5)), replace=False)) + offset
            exons = [tuple(map(int, pair)) for pair in edges.reshape(-1, 2)]
            inside = sorted(rng.choice(np.concatenate([np.arange(*exon) for exon in exons]), 2).tolist())
            transcripts.append((exons, (inside[0], inside[1] + 1) if rng.random() < 0.5 else None))
        genes.append(
            {
                "contig": contig,
                "strand": str(rng.choice(["+", "-"])),
                "id": f"G{index}",
                "transcripts": transcripts,
            }
        )
    return genes


def tss_of(gene, transcript):
    exons, _ = transcript
    return exons[0][0] if gene["strand"] == "+" else exons[-1][1] - 1


def base_features(genes, upstream, downstream):
    """Return contig → list with the set of features of each base, by loops."""
    bases = {contig: [set() for _ in range(length)] for contig, length in LENGTHS.items()}
    for gene in genes:
        found, plus = bases[gene["contig"]], gene["strand"] == "+"
        edges = [edge for exons, _ in gene["transcripts"] for exon in exons for edge in exon]
        for position in range(min(edges), max(edges)):
            found[position].add("intron")
        for transcript in gene["transcripts"]:
            tss = tss_of(gene, transcript)
            for position in range(len(found)):
                along = position - tss if plus else tss - position
                if -upstream <= along < downstream:
                    found[position].add("promoter")
            exons, cds = transcript
            for start, end in exons:
                for position in range(start, end):
                    before = cds is not None and (position < cds[0] if plus else position >= cds[1])
                    behind = cds is not None and (position >= cds[1] if plus else position < cds[0])
                    found[position].add("5'UTR" if before else "3'UTR" if behind else "exon")
    return bases


def random_calls(seed, number=300):
    """Return contig, start and end of short intervals, sorted."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(number):
        contig = str(rng.choice(list(LENGTHS)))
        start = int(rng.integers(0, LENGTHS[contig] - 40))
        rows.append((contig, start, start + int(rng.integers(1, 40))))
    return sorted(rows)


def write_bed(path, rows):
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path

#!/usr/bin/env bash
# Score the effect of variants on Z-DNA: one base is changed in the middle of each of three planted runs.
set -euo pipefail

mkdir -p runs/demo
{
    printf '##fileformat=VCFv4.2\n##contig=<ID=synthetic1,length=130000>\n'
    printf '#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n'
    awk 'NR <= 3 && $1 == "synthetic1"' examples/demo_truth.bed | while read -r contig start end _; do
        position=$(((start + end) / 2))
        base=$(awk -v at="$position" '/^>/ { n++; next } n == 1 { if (done + length($0) >= at) { print toupper(substr($0, at - done, 1)); exit } done += length($0) }' examples/demo.fa)
        printf '%s\t%s\t.\t%s\t%s\t.\t.\t.\n' "$contig" "$position" "$base" "$(tr ACGT TATA <<<"$base")"
    done
} >runs/demo/demo.vcf
zflipon variants runs/demo/demo.vcf --genome examples/demo.fa -o runs/demo/variants.tsv --force
cat runs/demo/variants.tsv

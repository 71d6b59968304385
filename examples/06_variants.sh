#!/usr/bin/env bash
# Score the effect of variants on Z-DNA: a substitution, a deletion and an insertion in planted runs.
set -euo pipefail

mkdir -p runs/demo
zflipon variants examples/demo.vcf --genome examples/demo.fa -o runs/demo/variants.tsv --force
cat runs/demo/variants.tsv

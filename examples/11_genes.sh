#!/usr/bin/env bash
# Find the genes and features of the called intervals, and the features in which calls are enriched.
set -euo pipefail

zflipon genes examples/demo_truth.bed --gtf examples/demo.gtf --genome examples/demo.fa -o runs/demo/genes.tsv --force

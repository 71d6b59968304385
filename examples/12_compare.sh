#!/usr/bin/env bash
# Compare the calls on the demo genome with the planted Z-DNA: overlap, and the loci that differ.
set -euo pipefail

zflipon compare runs/demo/demo.bw examples/demo_truth.bed --names called,planted -o runs/demo/changed.tsv --force

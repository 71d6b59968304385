#!/usr/bin/env bash
# Evaluate the tracks of 01_annotate.sh: compare them with the planted Z-DNA.
# Any bigWig, bedGraph or BED can be added for comparison; --plot curves.png draws precision–recall curves.
set -euo pipefail

zflipon evaluate runs/demo/demo.bw runs/demo/demo.bed \
    --genome examples/demo.fa --labels examples/demo_truth.bed --json runs/demo/scores.json --force

# Choose the threshold for a stated precision; annotate --calibration uses the file.
zflipon calibrate runs/demo/demo.bw \
    --genome examples/demo.fa --labels examples/demo_truth.bed --precision 0.1 -o runs/demo/calibration.json --force

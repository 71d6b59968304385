#!/usr/bin/env bash
# Tracks → scores: hold what 01_annotate.sh wrote against what was planted.
# Any bigWig, bedGraph or BED can stand beside ours; --plot curves.png draws precision against recall.
set -euo pipefail

zflipon evaluate runs/demo/demo.bw runs/demo/demo.bed \
    --genome examples/demo.fa --labels examples/demo_truth.bed --json runs/demo/scores.json --force

#!/usr/bin/env bash
# Annotate the demo genome with the bundled model.
# Writes a probability for each base (.bw) and the called intervals (.bed), for IGV or the UCSC browser.
set -euo pipefail

mkdir -p runs/demo
zflipon annotate examples/demo.fa -o runs/demo/demo.bw -o runs/demo/demo.bed --force
head -n 5 runs/demo/demo.bed

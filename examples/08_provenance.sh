#!/usr/bin/env bash
# Where a track came from, by the record beside it; and whether the same model says the same of a place today.
set -euo pipefail

mkdir -p runs/demo
zflipon annotate examples/demo.fa -o runs/demo/told.bw --force
zflipon provenance runs/demo/told.bw --genome examples/demo.fa --verify synthetic1:1-20,000

#!/usr/bin/env bash
# Show how a track was made, from its run record; compute one region again and compare.
set -euo pipefail

mkdir -p runs/demo
zflipon annotate examples/demo.fa -o runs/demo/recorded.bw --force
zflipon provenance runs/demo/recorded.bw --genome examples/demo.fa --verify synthetic1:1-20,000

#!/usr/bin/env bash
# Write a bundle: the tracks for genome browsers, and a report that opens without a network (runs/demo/hub/index.html).
set -euo pipefail

zflipon bundle runs/demo/demo.bw runs/demo/demo.bed -o runs/demo/hub --genome examples/demo.fa \
    --gtf examples/demo.gtf --labels examples/demo_truth.bed --force

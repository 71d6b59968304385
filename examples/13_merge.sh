#!/usr/bin/env bash
# Annotate the demo genome in two parts, as two jobs of a cluster would, and merge them.
set -euo pipefail

zflipon annotate examples/demo.fa -m zhunt --part 1/2 -o runs/demo/part1.zfp --force
zflipon annotate examples/demo.fa -m zhunt --part 2/2 -o runs/demo/part2.zfp --force
zflipon merge runs/demo/part1.zfp runs/demo/part2.zfp -o runs/demo/merged.bw -o runs/demo/merged.bed --force
head -n 3 runs/demo/merged.bed

#!/usr/bin/env bash
# Recipe → checkpoint: train a tiny model, which then annotates a region.
set -euo pipefail

zflipon train examples/tiny.toml -o runs/tiny --restart
zflipon annotate examples/demo.fa -o - --model runs/tiny --region synthetic1:1-20,000

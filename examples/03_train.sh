#!/usr/bin/env bash
# Train a tiny model with a recipe, then annotate a region with it.
set -euo pipefail

zflipon train examples/tiny.toml -o runs/tiny --restart
zflipon annotate examples/demo.fa -o - --model runs/tiny --region synthetic1:1-20,000

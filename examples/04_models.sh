#!/usr/bin/env bash
# List the models; show the bundled one: its training data and its accuracy.
set -euo pipefail

zflipon models
zflipon models show compact

# write a checkpoint as safetensors with its metadata; prints the checksums, the values do not change
mkdir -p runs/demo
zflipon models convert compact -o runs/demo/compact --force

# make a checkpoint from a file of weights; config and tokenizer come from another checkpoint (here of 03_train.sh)
zflipon models import runs/tiny/model.safetensors --base runs/tiny --window 256 --max-token-length 5 \
    -o runs/demo/imported --force

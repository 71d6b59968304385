#!/usr/bin/env bash
# What models there are, and what the bundled one was trained on and how it scores.
set -euo pipefail

zflipon models
zflipon models show compact

# any checkpoint as safetensors with a story; the checksums before and after, and no number changes
mkdir -p runs/demo
zflipon models convert compact -o runs/demo/compact --force

# a file of weights alone, whose config and tokenizer are those of another checkpoint (03_train.sh has made both)
zflipon models import runs/tiny/model.safetensors --base runs/tiny --window 256 -o runs/demo/imported --force

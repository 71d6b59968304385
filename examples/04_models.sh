#!/usr/bin/env bash
# What models there are, and what the bundled one was trained on and how it scores.
set -euo pipefail

zflipon models
zflipon models show compact

# any checkpoint as safetensors with a story; the checksums before and after, and no number changes
mkdir -p runs/demo
zflipon models convert compact -o runs/demo/compact --force

#!/usr/bin/env bash
# What models there are, and what the bundled one was trained on and how it scores.
set -euo pipefail

zflipon models
zflipon models show compact

#!/usr/bin/env bash
# Explain the calls: count how often each token is called inside and outside planted Z-DNA, then rank the tokens.
# Tables of other methods and models can be ranked together with this one.
set -euo pipefail

zflipon explain tokens examples/demo.fa --labels examples/demo_truth.bed -o runs/demo/tokens.csv --force
zflipon explain rank runs/demo/tokens.csv -o runs/demo/ranking.csv --force

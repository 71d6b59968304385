#!/usr/bin/env bash
# Which sequence made the calls: how often each token is called where Z-DNA was planted, and the tokens' ranking.
# Tables of other methods and models can be ranked with it.
set -euo pipefail

zflipon explain tokens examples/demo.fa --labels examples/demo_truth.bed -o runs/demo/tokens.csv --force
zflipon explain rank runs/demo/tokens.csv -o runs/demo/ranking.csv --force

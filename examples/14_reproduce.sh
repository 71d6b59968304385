#!/usr/bin/env bash
# Compute the rankings of the paper again and print them next to the printed ones.
set -euo pipefail

zflipon reproduce 5.7 5.8

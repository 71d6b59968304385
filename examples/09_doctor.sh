#!/usr/bin/env bash
# What this machine has, whether all that it can compute with agrees, and how long a human genome would take.
set -euo pipefail

zflipon doctor

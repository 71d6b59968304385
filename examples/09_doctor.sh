#!/usr/bin/env bash
# Check the installation: versions, devices, whether the devices agree, and the speed of each.
set -euo pipefail

zflipon doctor

#!/usr/bin/env bash
# Installs zflipon with the lowest version of each dependency that pyproject.toml admits, in the oldest Python, and runs
# a part of the tests there. Without arguments these are TESTS below. Needs uv (pip install uv).
#
#   packaging/lowest.sh                        # lowest versions
#   RESOLUTION=highest packaging/lowest.sh     # newest versions
#   PYTHON=/usr/bin/python3.10 packaging/lowest.sh tests/inference
set -euo pipefail
cd "$(dirname "$0")/.."

TESTS=(
  tests/models/test_families.py
  tests/models/test_adapters.py
  tests/models/test_checkpoint.py
  tests/inference/test_predictor.py
  tests/genome/test_fasta.py
  tests/tracks
  tests/training/test_loss.py
  tests/workflows/test_annotate.py
  tests/cli/test_help.py
)
if [ $# -eq 0 ]; then
  set -- "${TESTS[@]}"
fi

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv --quiet --python "${PYTHON:-3.10}" "$folder/venv"
python="$folder/venv/bin/python"
resolution="${RESOLUTION:-lowest-direct}"
uv pip compile --quiet --python "$python" --resolution "$resolution" --extra plot --extra explain --extra train \
  --extra bundle --extra log pyproject.toml --output-file "$folder/requirements.txt"
uv pip install --quiet --python "$python" --requirement "$folder/requirements.txt"
uv pip install --quiet --python "$python" pytest hypothesis # of the tests, the newest will do
uv pip install --quiet --python "$python" --no-deps --editable .
grep --extended-regexp '^[a-z]' "$folder/requirements.txt" | grep --invert-match '^nvidia-' # the versions, for the log

export HF_HUB_OFFLINE=1 MPLBACKEND=Agg OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PATH="$folder/venv/bin:$PATH"
"$python" -m pytest -q -x "$@"

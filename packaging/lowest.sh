#!/usr/bin/env bash
# Installs zflipon with the lowest version of each dependency that pyproject.toml admits, in the oldest Python, and runs
# the tests there, without the slow ones unless they are named. Needs uv (pip install uv).
#
#   packaging/lowest.sh                        # lowest versions
#   RESOLUTION=highest packaging/lowest.sh     # newest versions
#   PYTHON=/usr/bin/python3.10 packaging/lowest.sh tests/inference
set -euo pipefail
cd "$(dirname "$0")/.."

EXTRAS=(plot explain train bundle parquet genes view log int8)
if [ $# -eq 0 ]; then
  set -- -m "not slow"
fi

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv --quiet --python "${PYTHON:-3.10}" "$folder/venv"
python="$folder/venv/bin/python"
resolution="${RESOLUTION:-lowest-direct}"
bounds="$folder/bounds.txt"
touch "$bounds"
if [ "$resolution" = lowest-direct ]; then
  uv run --quiet --no-project --with tomli packaging/lower_bounds.py "${EXTRAS[@]}" >"$bounds"
fi
uv pip compile --quiet --python "$python" --resolution "$resolution" "${EXTRAS[@]/#/--extra=}" \
  --constraint "$bounds" pyproject.toml --output-file "$folder/requirements.txt"
uv pip install --quiet --python "$python" --requirement "$folder/requirements.txt"
# of the tools of the tests, the newest will do
uv pip install --quiet --python "$python" pytest pytest-xdist hypothesis
uv pip install --quiet --python "$python" --no-deps --editable .
grep --extended-regexp '^[a-z]' "$folder/requirements.txt" | grep --invert-match '^nvidia-' # the versions, for the log

export HF_HUB_OFFLINE=1 MPLBACKEND=Agg OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PATH="$folder/venv/bin:$PATH"
"$python" -m pytest -q -n "${PROCESSES:-2}" --dist loadfile "$@"

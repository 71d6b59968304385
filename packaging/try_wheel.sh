#!/usr/bin/env bash
# Installs a wheel in an empty environment of each Python and annotates the demo genome there, outside the repository.
# Uses uv if it is on the PATH, else venv and pip. Prints a line per Python; the calls must be the same everywhere.
#
#   packaging/try_wheel.sh dist/zflipon-*.whl python3.10 python3.13
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: $0 WHEEL PYTHON..." >&2
  exit 2
fi
wheel="$(realpath "$1")"
demo="$(realpath "$(dirname "$0")/../examples/demo.fa")"
shift
status=0

try() (
  python="$1" folder="$2"
  cd "$folder"
  if command -v uv >/dev/null; then
    uv venv --quiet --python "$python" venv
    uv pip install --quiet --python venv/bin/python "$wheel"
  else
    "$python" -m venv venv
    venv/bin/python -m pip install --quiet "$wheel"
  fi
  cp "$demo" demo.fa
  export PYTHONSAFEPATH=1 HF_HUB_OFFLINE=1
  venv/bin/zflipon annotate demo.fa -o demo.bw -o demo.bed --device cpu --quiet
  venv/bin/python - <<'EOF'
import hashlib, platform
from importlib.metadata import version
calls = open("demo.bed", "rb").read()
digest = hashlib.sha256(calls).hexdigest()[:12]
packages = ", ".join(f"{name} {version(name)}" for name in ("zflipon", "torch", "transformers", "numpy"))
print(f"Python {platform.python_version()}: {calls.count(b'Z')} calls, sha256 {digest}; {packages}", flush=True)
EOF
)

for python in "$@"; do
  folder="$(mktemp -d)"
  try "$python" "$folder" &
  if ! wait $!; then
    echo "$python: failed" >&2
    status=1
  fi
  rm -rf "$folder"
done
exit "$status"

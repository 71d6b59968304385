#!/usr/bin/env bash
# Show the tracks in a web browser. `zflipon view` serves until Ctrl-C; this script requests the page once and stops it.
set -euo pipefail

mkdir -p runs/demo
zflipon annotate examples/demo.fa -o runs/demo/view.bw -o runs/demo/view.bed --force
zflipon view runs/demo/view.bw runs/demo/view.bed --genome examples/demo.fa --no-browser > runs/demo/address.txt &
server=$!
trap 'kill "$server" 2> /dev/null || true' EXIT
until [ -s runs/demo/address.txt ]; do kill -0 "$server"; done # wait for the printed address
python3 -c 'import sys, urllib.request; page = urllib.request.urlopen(sys.argv[1]).read().decode()
print(page.split("<title>")[1].split("</title>")[0], "with", page.count("data-locus"), "calls")' "$(cat runs/demo/address.txt)"

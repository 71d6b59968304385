#!/usr/bin/env bash
# The figures of the README's accuracy table: annotate the validation contigs with a model (the bundled one by
# default) and hold the track and the peers' calls against the labels, on every base and on the paper's 1:3 sample.
#
#   benchmarks/validation.sh DATA OUT [MODEL]
#
# DATA holds hg19_part.fa.gz, kouzine.bed, blacklist.bed and the peers' zhunt.bed, zdnabert.bed, deepz.bed.
set -euo pipefail

data=$1 out=$2 model=${3:-compact}
contigs=chr14_100M,chr22_50M

mkdir -p "$out"
zflipon annotate "$data/hg19_part.fa.gz" -o "$out/zflipon.bw" -o "$out/zflipon.bed" \
    --model "$model" --contigs "$contigs" --force
zflipon evaluate "$out/zflipon.bw" "$out/zflipon.bed" "$data"/{zhunt,zdnabert,deepz}.bed \
    --labels "$data/kouzine.bed" --blacklist "$data/blacklist.bed" --genome "$data/hg19_part.fa.gz" \
    --contigs "$contigs" --json "$out/scores.json" --plot "$out/curves.png" --force

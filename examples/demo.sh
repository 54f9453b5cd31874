#!/usr/bin/env bash
# Will a flight arrive more than 15 minutes late? Train on eleven months, evaluate and predict the twelfth.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p demo

say() { printf '\n$ %s\n' "$*"; "$@"; }

say shardwise train 'examples/flights/2013-0*.parquet' 'examples/flights/2013-1[01].parquet' \
    --target late --time-column departure --time 90s --memory 4GB --runs-folder demo/runs --out demo/model
say shardwise evaluate demo/model examples/flights/2013-12.parquet
say shardwise predict demo/model examples/flights/2013-12.parquet --out demo/december.parquet --keep departure,carrier,flight
printf '\nThe report: %s\n' "$(ls -d "$PWD"/demo/runs/*/report.html)"

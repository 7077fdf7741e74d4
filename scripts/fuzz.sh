#!/bin/sh
# Fuzzes the parsers: scripts/fuzz.sh [SECONDS [TARGET…]], by default every target for 60 seconds.
#
# Needs cargo-fuzz and a C++ compiler; works with the stable compiler. What was found to be interesting is kept in
# tests/fuzz/corpus (not in git). An input that breaks a rule is written to tests/fuzz/artifacts and ends the script with
# a failure: it is copied to tests/fuzz/seeds/TARGET, which `cargo test` goes over, once it is understood.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- authority hello request response chunked socks dns pool
export RUSTC_BOOTSTRAP=1

for target in "$@"; do
    mkdir -p "tests/fuzz/corpus/$target"
    nice -n 19 cargo fuzz run --fuzz-dir tests/fuzz "$target" "tests/fuzz/corpus/$target" "tests/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
done

#!/usr/bin/env bash
# Kills the supervisor, init, both, and the whole process group of a jail at random moments, 1,000 times or as often as
# the first argument says, and checks after each that no process lives, that the workspace is byte for byte what it was,
# and that no session, journal or mount is left. The test suite does the same 40 times.
set -euo pipefail
cd "$(dirname "$0")/.."
JAIL_SOAK=${1:-1000} exec cargo test --quiet --test jail -- random_moment

#!/bin/sh
# Runs fsspec's tests for file systems. See README.md.
# Usage: conformance/fsspec/run.sh target/debug [PYTEST OPTION…].
set -eu
built=$(realpath "$1")
shift
here=$(realpath "$(dirname "$0")")
"$here/../../sdk/python/tests/run.sh" "$built" "$here" "$@"

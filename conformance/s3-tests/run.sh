#!/bin/sh
# Runs the selected tests of ceph/s3-tests against an S3 server. See README.md.
# Usage: conformance/s3-tests/run.sh CHECKOUT SERVER [PYTEST OPTION…].
set -eu
checkout=$(realpath "$1")
server=$(realpath "$2")
shift 2
here=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The server says where it is, and ends when it is told no more.
mkfifo "$work/in" "$work/out"
"$server" "$work" "$here/users.txt" <"$work/in" >"$work/out" &
exec 3>"$work/in"
IFS= read -r ready <"$work/out"
port=$(printf '%s' "$ready" | python3 -c 'import json, sys; print(json.load(sys.stdin)["http"])')
sed "s/PORT/$port/" "$here/s3tests.conf" >"$work/s3tests.conf"
sed -n 's/^\(s3tests[^ ]*\): .*/\1/p' "$here/expected.txt" >"$work/expected"
tests=$(grep -vxFf "$work/expected" "$here/selected.txt")
status=0
cd "$checkout"
# Names of tests have no blanks in them.
S3TEST_CONF=$work/s3tests.conf PYTHONDONTWRITEBYTECODE=1 \
    python3 -m pytest -p no:cacheprovider --timeout 60 -q "$@" $tests || status=$?
exec 3>&-
wait
exit "$status"

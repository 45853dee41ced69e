#!/bin/sh
# Runs usual S3 clients against an S3 server. See README.md.
# Usage: conformance/s3-clients/run.sh SERVER.
set -eu
server=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for tool in aws rclone; do
    command -v $tool >/dev/null || { echo "install $tool first: see conformance/s3-clients/README.md" >&2; exit 2; }
done
# The server says where it is, and ends when it is told no more.
mkfifo "$work/in" "$work/out"
"$server" "$work" "$here/users.txt" s3.example.com <"$work/in" >"$work/out" &
exec 3>"$work/in"
IFS= read -r ready <"$work/out"
say() { printf '%s' "$ready" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
status=0
PYTHONDONTWRITEBYTECODE=1 python3 "$here/clients.py" "$(say http)" "$(say https)" "$(say ca)" || status=$?
exec 3>&-
wait
exit "$status"

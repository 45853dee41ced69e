#!/bin/sh
# Runs schemathesis against a controller's north-bound interface, over TLS, with all checks. See README.md.
# Usage: conformance/schemathesis/run.sh SERVER [SCHEMATHESIS OPTION…].
set -eu
server=$(realpath "$1")
shift
here=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! command -v st >/dev/null || [ "$(st --version)" != "$(cat "$here/version.txt")" ]; then
    echo "install $(cat "$here/version.txt") first: see conformance/schemathesis/README.md" >&2
    exit 2
fi
# The server says where it is, and ends when it is told no more.
mkfifo "$work/in" "$work/out"
"$server" "$work/state" <"$work/in" >"$work/out" &
exec 3>"$work/in"
IFS= read -r ready <"$work/out"
say() { printf '%s' "$ready" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
status=0
# It leaves a cache where it runs.
cd "$work"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$here st --config-file "$here/schemathesis.toml" \
    run "$here/../../openapi/v1.json" --url "$(say url)" --tls-verify "$(say ca)" \
    --header "Authorization: Bearer $(say token)" "$@" || status=$?
exec 3>&-
wait
exit "$status"

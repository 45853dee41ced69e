#!/bin/sh
# Runs the tests of Pravega's client in Python against a server. See README.md.
# Usage: conformance/streams-python/run.sh CHECKOUT SERVER [ARGUMENT OF THE SERVER…].
set -eu
tests=$(realpath "$1/tests")
server=$(realpath "$2")
shift 2
here=$(realpath "$(dirname "$0")")
venv=$here/../../target/streams-python
work=$(mktemp -d)
pid=
# The server is started here, and so it is ended here.
trap '[ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>"$work/end" || :; rm -rf "$work"' EXIT
trap 'exit 2' INT TERM
listens() { python3 -c 'import socket; socket.create_connection(("127.0.0.1", 9090), 1)' 2>"$work/why"; }
if listens; then
    echo "something else listens at 127.0.0.1:9090, where the tests look for the server" >&2
    exit 2
fi
[ -d "$venv" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q -r "$here/requirements.txt"
(cd "$work" && exec "$server" "$@") >"$work/log" 2>&1 &
pid=$!
deadline=$(($(date +%s) + 30))
until listens; do
    if ! kill -0 "$pid" 2>/dev/null || [ "$(date +%s)" -ge "$deadline" ]; then
        cat "$work/log" "$work/why" >&2
        exit 2
    fi
done
status=0
EXPECTED=$here/expected.txt PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$here \
    "$venv/bin/python" -m pytest -p results -p no:cacheprovider --timeout 120 --timeout-method thread -q \
    "$tests/pravega_client_test.py" "$tests/pravega_reader_test.py" || status=$?
[ "$status" -eq 0 ] || tail -n 50 "$work/log" >&2
exit "$status"

#!/bin/sh
# Runs our programs on Pravega's client in Rust against a server. See README.md.
# Usage: conformance/streams-rust/run.sh SERVER [ARGUMENT OF THE SERVER…]; the server is at $CONTROLLER.
set -eu
controller=${CONTROLLER:-tcp://127.0.0.1:9090}
server=$(realpath "$1")
shift
here=$(realpath "$(dirname "$0")")
built=${CARGO_TARGET_DIR:-$here/../../target/streams-rust}
work=$(mktemp -d)
pid=
# The server is started here, and so it is ended here.
trap '[ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>"$work/end" || :; rm -rf "$work"' EXIT
trap 'exit 2' INT TERM
port=${controller##*:}
listens() { python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>"$work/why"; }
if listens; then
    echo "something else listens at $controller, where the programs look for the server" >&2
    exit 2
fi
cargo build -q --locked --manifest-path "$here/Cargo.toml" --target-dir "$built" >&2 || exit 2
(cd "$work" && exec "$server" "$@") >"$work/log" 2>&1 &
pid=$!
deadline=$(($(date +%s) + 30))
until listens; do
    if ! kill -0 "$pid" 2>/dev/null || [ "$(date +%s)" -ge "$deadline" ]; then
        cat "$work/log" "$work/why" >&2
        exit 2
    fi
done
# Each program, its result, and the reason of one that is not that it passes; on standard error what one that is not as expected has said.
differences=0
"$built/debug/streams-rust" >"$work/programs"
while read -r program; do
    timeout 120 "$built/debug/streams-rust" "$program" "$controller" "${LOG:-error}" \
        >"$work/out" 2>"$work/said" </dev/null || :
    result=$(tail -n 1 "$work/out")
    line=$(grep "^$program: " "$here/expected.txt" || echo "$program: not known")
    case $result in
    ok | "FAILED: "*) ;;
    *) result="FAILED: it ended without a result" ;;
    esac
    case $line in
    "$program: ${result%%:*}" | "$program: ${result%%:*}: "*) ;;
    *)
        cat "$work/said" >&2
        line="$program: $result: but expected: ${line#*: }"
        differences=$((differences + 1))
        ;;
    esac
    echo "$line"
done <"$work/programs"
echo "$(wc -l <"$work/programs") programs, $differences not as expected"
[ "$differences" -eq 0 ] || { tail -n 50 "$work/log" >&2; exit 1; }

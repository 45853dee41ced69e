#!/bin/sh
# Runs tests of the packages as they are here, with the module and the node that cargo has built.
# Usage: sdk/python/tests/run.sh target/debug [PYTEST ARGUMENT…]. Without arguments, all that are beside this file.
set -eu
built=$(realpath "$1")
shift
here=$(realpath "$(dirname "$0")")
[ $# -gt 0 ] || set -- "$here"
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
cp -r "$here"/../python/* "$site"
# What Python has to find beside the packages, instead of in a wheel.
ln -s "$built/lib_geds.so" "$site/pygeds/_geds.abi3.so"
mkdir "$site/cloudskin_geds-0.dist-info"
printf '[fsspec.specs]\ngeds = geds_fsspec.GEDSFileSystem\n' >"$site/cloudskin_geds-0.dist-info/entry_points.txt"
CLOUDSKIN=$built/cloudskin PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$site:$here${PYTHONPATH:+:$PYTHONPATH} \
    python3 -m pytest -p no:cacheprovider -q "$@"

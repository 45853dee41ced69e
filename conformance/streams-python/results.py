"""Plugin of pytest: one line for each test with its result, and what differs from `expected.txt`."""

import os
import pathlib

import pytest

# What went wrong in any phase of a test is its result.
results = {}


def pytest_runtest_logreport(report):
    name = report.nodeid.rsplit("tests/", 1)[-1]
    if report.outcome != "passed" or name not in results:
        results[name] = report.outcome


def expected():
    lines = pathlib.Path(os.environ["EXPECTED"]).read_text().splitlines()
    rows = (line.split(": ", 2) for line in lines if not line.startswith("#"))
    return {name: (result, "".join(why)) for name, result, *why in rows}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    wanted = expected()
    differences = 0
    print()
    for name in sorted(wanted.keys() | results.keys()):
        result, why = wanted.get(name, ("not known", ""))
        found = results.get(name, "not run")
        differs = found != result
        differences += differs
        remark = f"but expected: {result}" if differs else why
        print(": ".join(filter(None, [name, found, remark])))
    print(f"{len(results)} tests, {differences} not as expected")
    session.exitstatus = 1 if differences else 0

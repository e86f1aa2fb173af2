#!/usr/bin/env python3
"""Adds up the GoogleTest (*.json) and pytest (*.xml) results of a folder and prints "hylas: N passed, N failed".

Above it stands each test that failed and what it said, so that the end of a long log names them.
Exits with 1 if anything failed, or if nothing ran at all.
"""
import json
import sys
import xml.etree.ElementTree
from pathlib import Path

LINES_OF_A_FAILURE = 20


def gtest_outcomes(path):
    """The outcome, the name and what a failure said, of each test of a GoogleTest program."""
    for suite in json.loads(path.read_text(encoding="utf-8"))["testsuites"]:
        for case in suite["testsuite"]:
            if case["status"] == "RUN":
                said = [failure["failure"] for failure in case.get("failures", [])]
                outcome = "skipped" if case["result"] == "SKIPPED" else "failed" if said else "passed"
                yield outcome, f"{case['classname']}.{case['name']}", "\n".join(said)


def pytest_outcomes(path):
    """The same of each test of pytest."""
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        children = {child.tag: child for child in case}
        said = [children[tag].get("message", "") for tag in ("failure", "error") if tag in children]
        outcome = "failed" if said else "skipped" if "skipped" in children else "passed"
        yield outcome, f"{case.get('classname')}.{case.get('name')}", "\n".join(said)


def main():
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(Path(sys.argv[1]).iterdir()):
        for outcome, name, said in gtest_outcomes(path) if path.suffix == ".json" else pytest_outcomes(path):
            totals[outcome] += 1
            if outcome == "failed":
                print(f"failed: {name}")
                print("\n".join(f"    {line}" for line in said.splitlines()[:LINES_OF_A_FAILURE]))
    skipped = f", {totals['skipped']} skipped" if totals["skipped"] else ""
    print(f"hylas: {totals['passed']} passed, {totals['failed']} failed{skipped}")
    return 1 if totals["failed"] or not totals["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())

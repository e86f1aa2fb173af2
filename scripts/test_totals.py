#!/usr/bin/env python3
"""Adds up the GoogleTest (*.json) and pytest (*.xml) results of a folder and prints "hylas: N passed, N failed".

Exits with 1 if anything failed, or if nothing ran at all.
"""
import json
import sys
import xml.etree.ElementTree
from pathlib import Path


def gtest_outcomes(path):
    for suite in json.loads(path.read_text(encoding="utf-8"))["testsuites"]:
        for case in suite["testsuite"]:
            if case["status"] == "RUN":
                yield "skipped" if case["result"] == "SKIPPED" else "failed" if "failures" in case else "passed"


def pytest_outcomes(path):
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag for child in case}
        yield "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"


def main():
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(Path(sys.argv[1]).iterdir()):
        for outcome in gtest_outcomes(path) if path.suffix == ".json" else pytest_outcomes(path):
            totals[outcome] += 1
    skipped = f", {totals['skipped']} skipped" if totals["skipped"] else ""
    print(f"hylas: {totals['passed']} passed, {totals['failed']} failed{skipped}")
    return 1 if totals["failed"] or not totals["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Does one test of the suite hold every time? Kills, cancellations, switches, so many times over.

    python -m benchmarks.repeat tests/triton/test_supervision.py::test_name --times 20 --out JSON
        [-- further arguments of pytest]

Runs a test, a file or whatever else pytest selects, each time in a process of its own, one after
the other, and writes after each: passed, failed and skipped tests, the durations of their calls
(setup, which starts servers, not counted), and of each failure what pytest says of it. Ends with 1
where a test failed or none ran.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from benchmarks._command import positive, run
from benchmarks._report import make_report, spread, write_json

_OUTCOMES = {"failure": "failed", "error": "failed", "skipped": "skipped"}
_MESSAGE_CHARACTERS = 2000


Call = dict[str, Any]
"""One test in one run: "test", "outcome" (passed, failed or skipped), "seconds", "message"."""


def run_once(selection: str, arguments: list[str]) -> list[Call]:
    """Run pytest once; RuntimeError where it was killed, or no test ran."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", f"--junit-xml={report}", "-o", "junit_duration_report=call"]
        command = [sys.executable, "-m", "pytest", *options, *arguments]
        ended = subprocess.run([*command, selection], capture_output=True, text=True, check=False)
        calls = read_report(report.read_text("utf-8")) if report.exists() else []
    if not calls:
        said = (ended.stdout + ended.stderr)[-_MESSAGE_CHARACTERS:]
        raise RuntimeError(f"pytest ended with {ended.returncode} and ran no test:\n{said}")
    return calls


def read_report(text: str) -> list[Call]:
    """Return the tests of a JUnit report as pytest writes it."""
    calls = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        # A test whose teardown fails as well has two.
        told = [child for child in case if child.tag in _OUTCOMES]
        message = "\n".join(child.text or "" for child in told)[-_MESSAGE_CHARACTERS:]
        calls.append(
            {
                "test": f"{case.get('classname')}::{case.get('name')}",
                "outcome": _OUTCOMES[told[0].tag] if told else "passed",
                "seconds": float(case.get("time", 0.0)),
                "message": message,
            }
        )
    return calls


def summarise(runs: list[list[Call]]) -> dict[str, Any]:
    """Return what became of each test over all runs."""
    by_test: dict[str, list[Call]] = defaultdict(list)
    failures = []
    for number, calls in enumerate(runs, start=1):
        for call in calls:
            by_test[call["test"]].append(call)
            if call["outcome"] == "failed":
                failures.append({"run": number, **call})
    tests = {}
    for test, calls in by_test.items():
        seconds = [call["seconds"] for call in calls]
        tests[test] = {
            **dict.fromkeys(("passed", "failed", "skipped"), 0),
            **Counter(call["outcome"] for call in calls),
            "seconds": {**spread(seconds), "min": min(seconds), "max": max(seconds)},
        }
    return {"runs": len(runs), "tests": tests, "failures": failures}


def main() -> None:
    """Repeat, and report after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("selection", help="node id of a test, or a file")
    parser.add_argument("--times", type=positive, default=20)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("pytest_arguments", nargs="*", metavar="ARGUMENT", help="of pytest")
    args = parser.parse_args()
    runs: list[list[Call]] = []
    for number in range(1, args.times + 1):
        started = time.perf_counter()
        runs.append(run_once(args.selection, args.pytest_arguments))
        results = summarise(runs)
        report = make_report("does a test hold every time", results, repeats=number)
        write_json(args.out, report)
        outcomes = Counter(call["outcome"] for call in runs[-1])
        took = time.perf_counter() - started
        print(f"{number}/{args.times}: {dict(outcomes)} ({took:.1f} s)", flush=True)
    if results["failures"]:
        sys.exit(f"{len(results['failures'])} failures; see {args.out}")


if __name__ == "__main__":
    run(main)

"""Put each fault of tests/faults into this tree, and see that its tests notice it.

    python scripts/faults.py                          all of them, one after another
    python scripts/faults.py --only deadline caller   those whose names hold one of these words
    python scripts/faults.py --check                  only whether each can still be put in

Run it with the interpreter that has this tree and the extra `dev`, in a worktree of its own (`git
worktree add`): a run that is killed leaves its fault there. Ends with 1 where a fault is not caught
or does not apply any more, or where the tests fail without any.
"""

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "tests" / "faults" / "faults.toml"
PACKAGES = ("groundserve", "engine_build", "python_backend", "train")


def place_of(fault: dict[str, Any]) -> Path | None:
    """Return the file that a fault goes into, None where its text is not in exactly one place."""
    found = []
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        found += [path] * path.read_text("utf-8").count(fault["old"])
    return found[0] if len(found) == 1 else None


def run_tests(tests: list[str]) -> int:
    """Return pytest's exit code."""
    # A file may change twice in a second, and have the same size: compiled code would be stale.
    settings = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-qq", "-x", "--tb=line", *tests]
    return subprocess.run(command, cwd=ROOT, env=settings).returncode


def is_caught(fault: dict[str, Any]) -> bool:
    """Return whether tests fail with a fault; those that cannot run catch nothing."""
    path = place_of(fault)
    if path is None:
        return False
    sound = path.read_text("utf-8")
    path.write_text(sound.replace(fault["old"], fault["new"]), "utf-8")
    try:
        return run_tests(fault["tests"]) == 1
    finally:
        path.write_text(sound, "utf-8")


def main() -> None:
    """Try the faults."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    faults = tomllib.loads(FAULTS.read_text("utf-8"))["fault"]
    faults = [one for one in faults if any(word in one["name"] for word in arguments.only)]
    wrong = [f"does not apply: {one['name']}" for one in faults if not place_of(one)]
    if not arguments.check:
        if run_tests([test for one in faults for test in one["tests"]]):
            sys.exit("without any fault the tests must pass")
        for fault in faults:
            caught = is_caught(fault)
            print(f"{'caught' if caught else 'NOT CAUGHT'}: {fault['name']}", flush=True)
            wrong += [] if caught else [f"not caught: {fault['name']}"]
    print(f"{len(faults)} faults", *wrong, sep="\n")
    sys.exit(1 if wrong or not faults else 0)


if __name__ == "__main__":
    main()

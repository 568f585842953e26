"""Put each fault of tests/faults into a copy of this tree, and see that its tests notice it.

    python scripts/faults.py                          all of them, one after another
    python scripts/faults.py --only deadline caller   those whose names hold one of these words
    python scripts/faults.py --check                  only whether each can still be put in

Run it with the interpreter of the environment that has the extra `dev`. Ends with 1 where a fault
is not caught or does not apply any more, or where the tests fail without any.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "tests" / "faults" / "faults.toml"
PACKAGES = ("groundserve", "engine_build", "python_backend", "train")


def place_of(tree: Path, fault: dict[str, Any]) -> Path | None:
    """Return the file that a fault goes into, None where its text is not in exactly one place."""
    found = []
    for path in (path for package in PACKAGES for path in (tree / package).rglob("*.py")):
        found += [path] * path.read_text("utf-8").count(fault["old"])
    return found[0] if len(found) == 1 else None


def make_interpreter(copy: Path) -> Path:
    """Make an interpreter that has all that this one has, and imports the copy first.

    Models of a server read no PYTHONPATH: what is installed is what they import.
    """
    environment = copy / ".venv"
    venv.create(environment, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    (packages / "0_copy.pth").write_text(f"{copy}\n")  # read in the order of their names
    installed = sysconfig.get_path("purelib")
    (packages / "1_installed.pth").write_text(f"import site; site.addsitedir({installed!r})\n")
    return environment / "bin" / "python"


def run_tests(python: Path, copy: Path, tests: list[str]) -> int:
    """Return pytest's exit code."""
    # A file may change twice in a second, and have the same size: compiled code would be stale.
    clips = os.environ.get("GROUNDSERVE_CLIPS_DIR", str(Path(sys.prefix) / "clips"))
    settings = {"PYTHONDONTWRITEBYTECODE": "1", "GROUNDSERVE_CLIPS_DIR": clips}
    command = [python, "-m", "pytest", "-qq", "-x", "-p", "no:cacheprovider", "--tb=line", *tests]
    return subprocess.run(command, cwd=copy, env={**os.environ, **settings}).returncode


def is_caught(python: Path, copy: Path, fault: dict[str, Any]) -> bool:
    """Return whether tests fail with a fault; those that cannot run catch nothing."""
    path = place_of(copy, fault)
    if path is None:
        return False
    sound = path.read_text("utf-8")
    path.write_text(sound.replace(fault["old"], fault["new"]), "utf-8")
    try:
        return run_tests(python, copy, fault["tests"]) == 1
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
    wrong = [f"does not apply: {one['name']}" for one in faults if not place_of(ROOT, one)]
    if not arguments.check:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            copy = Path(folder)
            left = shutil.ignore_patterns(".git", ".venv", ".engines", "__pycache__", "runs")
            shutil.copytree(ROOT, copy, symlinks=True, ignore=left, dirs_exist_ok=True)
            python = make_interpreter(copy)
            if run_tests(python, copy, [test for one in faults for test in one["tests"]]):
                sys.exit("without any fault the tests must pass")
            for fault in faults:
                caught = is_caught(python, copy, fault)
                print(f"{'caught' if caught else 'NOT CAUGHT'}: {fault['name']}", flush=True)
                wrong += [] if caught else [f"not caught: {fault['name']}"]
    print(f"{len(faults)} faults", *wrong, sep="\n")
    sys.exit(1 if wrong or not faults else 0)


if __name__ == "__main__":
    main()

"""Put each fault of tests/faults into a copy of this tree, and see that its tests notice it.

    python scripts/faults.py                          all of them, one after another
    python scripts/faults.py --only deadline caller   those whose names hold one of these words
    python scripts/faults.py --check                  only whether each can still be put in

Run it with the interpreter of the environment that has the extra `dev`. A fault is caught where its
tests fail with it and pass without. Ends with 1 where one is not, or does not apply any more.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "tests" / "faults" / "faults.toml"
PACKAGES = ("groundserve", "engine_build", "python_backend", "train")
# Of pytest: that tests failed. Others say that they could not be run, which catches nothing.
TESTS_FAILED = 1


def place_of(tree: Path, fault: dict[str, Any]) -> Path | str:
    """Return the file that a fault goes into, or why there is none."""
    found = []
    for package in PACKAGES:
        for path in sorted((tree / package).rglob("*.py")):
            found += [path] * path.read_text("utf-8").count(fault["old"])
    if len(found) != 1:
        return f"does not apply: rewrite it; its text is in the packages {len(found)} times"
    return found[0]


def copy_tree(copy: Path) -> None:
    """Copy what git tracks or would track."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        if (ROOT / name).is_file():  # one that is deleted is listed as well
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


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


def run_tests(python: Path, copy: Path, tests: list[str]) -> tuple[int, str]:
    """Return pytest's exit code, and the last lines that it said."""
    # A file may change twice in a second, and have the same size: compiled code would be stale.
    clips = os.environ.get("GROUNDSERVE_CLIPS_DIR", str(Path(sys.prefix) / "clips"))
    settings = {"PYTHONDONTWRITEBYTECODE": "1", "GROUNDSERVE_CLIPS_DIR": clips}
    command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=line", *tests]
    done = subprocess.run(
        command, cwd=copy, env={**os.environ, **settings}, capture_output=True, text=True
    )
    return done.returncode, "\n".join(f"{done.stdout}{done.stderr}".splitlines()[-15:])


def try_fault(python: Path, copy: Path, fault: dict[str, Any]) -> tuple[str, str]:
    """Return "caught", or what is wrong, and what its tests said."""
    path = place_of(copy, fault)
    if isinstance(path, str):
        return path, ""
    sound = path.read_text("utf-8")
    path.write_text(sound.replace(fault["old"], fault["new"]), "utf-8")
    try:
        code, said = run_tests(python, copy, fault["tests"])
    finally:
        path.write_text(sound, "utf-8")
    if code == TESTS_FAILED:
        return "caught", said
    return "SURVIVED" if code == 0 else f"its tests did not run: pytest ended with {code}", said


def main() -> None:
    """Try the faults; JSON goes to --out."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON: what became of each")
    arguments = parser.parse_args()
    faults = tomllib.loads(FAULTS.read_text("utf-8"))["fault"]
    faults = [one for one in faults if any(word in one["name"] for word in arguments.only)]
    results = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        copy = ROOT if arguments.check else Path(folder)
        if not arguments.check:
            copy_tree(copy)
            python = make_interpreter(copy)
            code, said = run_tests(python, copy, [test for one in faults for test in one["tests"]])
            if code:
                sys.exit(
                    f"without any fault the tests must pass, pytest ended with {code}:\n{said}"
                )
        for fault in faults:
            started = time.monotonic()
            if arguments.check:
                place = place_of(copy, fault)
                outcome, said = (place if isinstance(place, str) else "applies"), ""
            else:
                outcome, said = try_fault(python, copy, fault)
            seconds = round(time.monotonic() - started, 1)
            print(f"{outcome:9} {seconds:6} s  {fault['name']}", flush=True)
            if outcome not in ("caught", "applies"):
                print(said, flush=True)
            results.append({"name": fault["name"], "outcome": outcome, "seconds": seconds, **fault})
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    num_wrong = sum(one["outcome"] not in ("caught", "applies") for one in results)
    print(f"{len(results)} faults, {num_wrong} of them not caught")
    sys.exit(1 if num_wrong or not results else 0)


if __name__ == "__main__":
    main()

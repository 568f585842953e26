"""Pin every package: uv on PATH (pip install uv), then python scripts/pin.py [--upgrade].

Writes `constraints.txt`, which `make` and CI install by: all that the extras and the build need on
Linux with Python 3.11 and 3.12, x86_64 and aarch64. It has no hashes: one hash in a constraints
file makes pip demand one of everything, which no editable install has, and other builds of torch,
as those for a CPU, have others. Writes `deploy/requirements.lock` too, with hashes, for the image.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.markers import Marker

REPOSITORY = Path(__file__).parent.parent
CHOICES = REPOSITORY / "constraints.in"
CONSTRAINTS = REPOSITORY / "constraints.txt"
IMAGE_REQUIREMENTS = REPOSITORY / "deploy" / "requirements.txt"
IMAGE_LOCK = REPOSITORY / "deploy" / "requirements.lock"
IMAGE_PYTHON = "3.12"

_ENVIRONMENTS = [
    {
        "python_version": version,
        # The first patch release stands for all of its minor version.
        "python_full_version": f"{version}.0",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for version in ("3.11", "3.12")
    for machine in ("x86_64", "aarch64")
]
# A line as uv writes it: `name==1.0`, ` ; marker`, then `    # via ...` or ` \\` before hashes.
_PIN = re.compile(r"(?P<pin>\S+==[^\s;]+)(?: ; (?P<marker>[^#\\]+?))?(?P<rest>\s+(?:#|\\).*)?")


def inputs_digest() -> str:
    """Return the SHA-256 of all that the pins follow from; both files begin with it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    inputs = {
        "build": project["build-system"]["requires"],
        "python": project["project"]["requires-python"],
        "dependencies": project["project"]["dependencies"],
        "extras": project["project"]["optional-dependencies"],
        "choices": CHOICES.read_text("utf-8"),
        "image": IMAGE_REQUIREMENTS.read_text("utf-8"),
    }
    # A test makes this digest anew, so inputs that changed without a new pin are found offline.
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def main(*, upgrade: bool) -> None:
    """Resolve anew; versions that may stay do, unless all shall be the newest."""
    header = f"# By scripts/pin.py; do not edit. Of inputs with SHA-256 {inputs_digest()}\n"
    options = ["--upgrade"] if upgrade else []
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder, "build-system")
        build.write_text("\n".join(project["build-system"]["requires"]) + "\n", "utf-8")
        out = Path(folder, "constraints.txt")
        out.write_bytes(CONSTRAINTS.read_bytes())  # where uv looks what may stay
        _compile(
            *("pyproject.toml", str(build), "--all-extras", "--universal"),
            *("--python-version", "3.11", "--constraints", str(CHOICES)),
            *("--annotation-style", "line", "--output-file", str(out), *options),
        )
        # The folder is another one each time and stands in the annotations ("# via -r ...").
        pins = _simplify(out.read_text("utf-8").replace(str(build), "the build"))
        CONSTRAINTS.write_text(header + pins, "utf-8")
        out = Path(folder, "requirements.lock")
        _compile(
            *(str(IMAGE_REQUIREMENTS), "--universal", "--python-version", IMAGE_PYTHON),
            *("--constraints", str(CONSTRAINTS), "--generate-hashes", "--no-annotate"),
            *("--output-file", str(out)),
        )
        IMAGE_LOCK.write_text(header + _simplify(out.read_text("utf-8")), "utf-8")


def _compile(*arguments: str) -> None:
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-emit-index-url"]
    subprocess.run([*command, *arguments], cwd=REPOSITORY, check=True)


def _simplify(text: str) -> str:
    """Drop the markers that hold in each of our environments, and the lines of those in none."""
    kept = []
    is_kept = True
    for line in text.splitlines():
        pin = _PIN.fullmatch(line)
        if pin is None:  # a hash of the pin above, a comment
            if is_kept and not line.startswith("#"):
                kept.append(line)
            continue
        holds = [
            pin["marker"] is None or Marker(pin["marker"]).evaluate(environment)
            for environment in _ENVIRONMENTS
        ]
        # It also decides about the lines of hashes that follow.
        is_kept = any(holds)
        if is_kept:
            marker = "" if all(holds) else f" ; {pin['marker']}"
            kept.append(f"{pin['pin']}{marker}{pin['rest'] or ''}")
    return "\n".join(kept) + "\n"


if __name__ == "__main__":
    main(upgrade=sys.argv[1:] == ["--upgrade"])

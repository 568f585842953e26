"""The locks of deploy/ are what its requirements resolve to, in their images.

`python -m tests.build.test_image_locks` writes them anew. Both ask the package index.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.reference import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
PROFILES = ("gpu", "gpu-trtllm", "vllm")
# Both images are Ubuntu 24.04, whose Python is 3.12.3 and whose C library is 2.39. What else
# 26.07-py3 has is virtualenv, numpy < 2 and Triton's OpenAI frontend, and ours come before these:
# triton-inference-server/server 819ee37, r26.07: build.py, `dockerfile_prepare_container_linux`.
PYTHON, PLATFORM = "3.12.3", "x86_64-manylinux_2_39"


def packages(path: Path) -> dict[str, str]:
    """Return each line of a requirements file but comments, by its package's name."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return {re.split(r"[<>=\[]", line)[0]: line for line in lines if line}


def solve(profile: str, lock: Path, folder: Path) -> None:
    """Resolve a profile's requirements into a lock, whose pins stay where they may."""
    known = DEPLOY / f"{profile}-image.txt"
    in_image = packages(known) if known.exists() else {}
    # vLLM pins its own versions.
    tested = {} if profile == "vllm" else packages(REPOSITORY / "constraints.txt")
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join({**tested, **in_image}.values()))
    options = f"--python-version {PYTHON} --python-platform {PLATFORM} --only-binary :all:"
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", DEPLOY / f"{profile}.txt"),
            *("--constraints", constraints, "--output-file", lock, *options.split()),
            *("--quiet", "--generate-hashes", "--no-annotate"),
            *("--no-header", "--no-emit-index-url"),
            *(f"--no-emit-package={name}" for name in in_image),
        ],
        check=True,
        cwd=folder,
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_the_lock_is_what_the_image_needs(profile, tmp_path):
    locked = (DEPLOY / f"{profile}.lock").read_text("utf-8")
    lock = tmp_path / "lock"
    lock.write_text(locked)
    solve(profile, lock, tmp_path)
    assert lock.read_text() == locked, f"write it anew: python -m {__name__}"


if __name__ == "__main__":
    import tempfile

    for one in PROFILES:
        with tempfile.TemporaryDirectory() as place:
            solve(one, DEPLOY / f"{one}.lock", Path(place))

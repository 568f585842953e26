"""docs/quickstart.md, line by line, in an environment that has nothing yet."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.reference import REPOSITORY

PAGE = (REPOSITORY / "docs" / "quickstart.md").read_text("utf-8")
LINES = "\n".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


# Without the environment of these tests.
ENVIRONMENT = {**os.environ, "PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": ""}
# In an environment that has the extra `client` alone.
CLIENT = """
import importlib.util
from groundserve import Client, UnavailableError
assert importlib.util.find_spec("av") is None
with Client("grpc://127.0.0.1:9") as client:
    try:
        client.score(b"video", "When?")
    except UnavailableError as error:
        print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def said(folder) -> str:
    """What the lines print, run in a copy of what is committed or about to be."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(listed, cwd=REPOSITORY, text=True).splitlines()
    for name in names:
        if not name.startswith("tests/") and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, folder / name)
    # -m: jobs have numbers, as in the shell that somebody types into.
    run = subprocess.run(
        ["bash", "-m", "-c", "set -e\n" + LINES],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2400,
        env=ENVIRONMENT,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


@pytest.mark.timeout(2500)
def test_every_line_works(said):
    assert "4 of 4  Find the one." in said  # the demo, from the wheel
    assert "spans: 0:37.0-0:41.0" in said  # score
    assert '"selected_seconds":[' in said.replace(" ", "")  # curl
    assert "[41. 43. 44. 46.]" in said  # Python


def test_the_wheel_is_a_client_with_the_extra_client_alone(said, folder):
    (wheel,) = (folder / "dist").glob("*.whl")
    lines = f"""set -e
python3 -m venv client
client/bin/pip install -c constraints.txt '{wheel}[client]'
client/bin/python - <<'EOF'{CLIENT}EOF"""
    run = subprocess.run(
        ["bash", "-c", lines], cwd=folder, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("UnavailableError\n")

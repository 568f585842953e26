"""What the command line says of a family: the one it finds, and those it cannot serve."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from groundserve import families
from tests.cli.command import run_cli


@pytest.fixture
def engines_of_family(engine_dirs, tmp_path):
    """Make an engine directory whose manifest names another family."""

    def make(name):
        out = tmp_path / "engines"
        shutil.copytree(engine_dirs["cpu"], out)
        manifest = json.loads((out / "manifest.json").read_text())
        (out / "manifest.json").write_text(json.dumps({**manifest, "family": name}))
        return out

    return make


@pytest.mark.parametrize("command", ["doctor", "serve"])
def test_engines_of_a_family_that_is_unknown_are_one_error(engines_of_family, command):
    finished = run_cli(command, "--engines", engines_of_family("nobodys"))
    assert finished.code == 1
    assert finished.stdout == ""
    (line,) = [line for line in finished.stderr.splitlines() if "error" in line]
    assert re.fullmatch(r"groundserve: error: manifest\.json: .*family .*nobodys.*", line)
    assert "Traceback" not in finished.stderr


def test_help_of_ask_names_the_families_that_answer():
    served = families.family_names()
    asked = [name for name in served if families.get_family(name).head == "text"]
    text = " ".join(run_cli("ask", "--help", env={"COLUMNS": "200"}).stdout.split())
    (offered,) = re.findall(r"--checkpoint .*?directory of a checkpoint of (.*?)\.", text)
    assert re.findall(r"\w+", offered.replace(" or ", " ")) == asked

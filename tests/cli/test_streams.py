"""What a command does where a stream of its shell is closed, full, or shows what it is given."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.command import run_cli

RECORD = '{"doc_id": 0, "index": [25, 0, 50]}\n'


@pytest.mark.parametrize(
    ("redirection", "second", "code", "stdout", "stderr"),
    [
        pytest.param(">&-", "a", 0, "", "", id="stdout closed"),
        pytest.param("2>&-", "none", 2, "InvalidRequestError", "", id="stderr closed"),
        pytest.param("2>/dev/full", "none", 2, "InvalidRequestError", "", id="stderr full"),
        pytest.param(">/dev/full", "a", 1, "", "No space left on device", id="stdout full"),
    ],
)
def test_a_stream_that_takes_nothing(tmp_path, redirection, second, code, stdout, stderr):
    (tmp_path / "a").write_text(RECORD)
    command = [sys.executable, "-m", "groundserve", "compare", "a", second, "--json"]
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code
    if stdout:
        assert json.loads(ended.stdout)["error"]["type"] == stdout
    else:
        assert ended.stdout == ""
    assert ended.stderr == (f"groundserve: error: {stderr}\n" if stderr else "")


def test_the_name_of_a_file_does_not_steer_the_terminal(tmp_path):
    first, second = tmp_path / "a\x1b[31m", tmp_path / "b"
    first.write_text(RECORD + RECORD.replace("0,", "1,", 1))
    second.write_text(RECORD)
    said = run_cli("compare", first, second)
    assert said.code == 0
    assert "\\x1b[31m were not compared" in said.stderr
    assert "\x1b" not in said.stderr

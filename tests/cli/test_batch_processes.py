"""`groundserve batch` as processes of its own: signals, and the demo in a short form."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from groundserve.batch.status import read_status
from tests.support.reference import REPOSITORY, SET_2

PATIENCE_SECONDS = 240


def processes_that_name(text: str) -> list[psutil.Process]:
    """All whose environment has the mark of the test."""
    found = []
    for process in psutil.process_iter():
        try:
            if text in process.environ().get("GROUNDSERVE_TEST_MARK", ""):
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            pass
    return found


@pytest.mark.timeout(2 * PATIENCE_SECONDS)
def test_sigterm_stops_everything_in_order(engine_dirs, tmp_path):
    """The manifest is long enough that it cannot be done when the signal comes."""
    manifest = tmp_path / "m.jsonl"
    video = str(SET_2 / "rotated.mp4")
    rows = [
        {"id": str(number), "video": video, "query": "a?", "options": {"num_frames": number + 1}}
        for number in range(400)
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "run"
    command = [sys.executable, "-m", "groundserve", "batch", str(manifest), "--out", str(run)]
    command += ["--engines", str(engine_dirs["cpu"]), "--workers", "1", "--json"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "GROUNDSERVE_TEST_MARK": str(tmp_path), "TMPDIR": str(temporary)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            end = time.monotonic() + PATIENCE_SECONDS
            while read_status(str(run)).num_done == 0:
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (143, ""), err
    status = read_status(str(run))
    assert status.state == "stopped"
    assert 0 < status.num_done < len(rows)
    assert err.splitlines()[-1] == (
        f"groundserve: stopped: {status.num_done} of 400 rows are done; the same command with "
        "--resume goes on"
    )
    end = time.monotonic() + 30
    while (left := processes_that_name(str(tmp_path))) and time.monotonic() < end:
        time.sleep(0.2)
    assert left == []
    # Where torch keeps what it has compiled, for any program.
    assert [one.name for one in temporary.iterdir() if "torchinductor" not in one.name] == []


@pytest.mark.timeout(2 * PATIENCE_SECONDS)
def test_demo_in_a_short_form(engine_dirs, tmp_path):
    """A run of seven videos is killed and resumed; the script itself checks the final set."""
    command = [sys.executable, str(REPOSITORY / "scripts" / "demo_batch.py"), "--num-videos", "7"]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "demo"), "--engines", str(engine_dirs["cpu"])],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "14 rows for 14 ids, 6 of them with their error" in ended.stdout
    assert Path(tmp_path, "demo", "run", "report.html").is_file()

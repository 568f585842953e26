"""The process in which parts of the GPU check run: what it survives, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.report import Part
from benchmarks.gpu.size import SMALL
from benchmarks.gpu.worker import Worker
from benchmarks.gpu_check import (
    main,
)
from tests.benchmarks.gpu_parts import part
from tests.reference import REPOSITORY


@pytest.fixture(scope="module")
def worker():
    one = Worker(size=SMALL, device="cpu")
    yield one
    one.close()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("raises", "ValueError: out of luck"),
        ("runs_out_of_memory", "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB"),
        ("is_killed", "its process was ended by SIGKILL; out of host memory?"),
        ("crashes", "its process was ended by SIGABRT"),
        ("exits", "its process ended with code 3"),
        ("gets_a_signal_without_a_name", "its process was ended by signal "),
        ("names_a_file", "FileNotFoundError: video \\udcff.mp4"),
        ("returns_what_json_lacks", "TypeError: Object of type float32 is not JSON serializable"),
        ("absent", "AttributeError: module 'tests.benchmarks.gpu_parts' has no attribute"),
    ],
)
def test_a_part_that_fails_takes_its_process_alone(worker, name, error):
    before = worker.run(part("fine"), limit_seconds=300)["results"]
    outcome = worker.run(part(name), limit_seconds=300)
    after = worker.run(part("fine"), limit_seconds=300)

    assert outcome["status"] == "failed"
    assert outcome["error"].startswith(error)
    assert ("traceback" in outcome) == (not error.startswith("its process"))
    assert after["status"] == "ok"
    assert after["results"]["pid"] != before["pid"]


def test_a_part_whose_module_does_not_import_is_a_failed_part(worker):
    missing = Part(name="missing", seconds=0, target="benchmarks.gpu.no_such_module:measure")
    outcome = worker.run(missing, limit_seconds=300)
    assert outcome["error"].startswith("ModuleNotFoundError: No module named 'benchmarks.gpu.no")


def test_parts_of_one_worker_share_a_process_and_the_next_one_knows_the_ceiling(worker):
    first, second = (worker.run(part("fine"), limit_seconds=300)["results"] for _ in range(2))
    worker.run(part("raises"), limit_seconds=300)
    third = worker.run(part("fine"), limit_seconds=300)["results"]

    assert first["pid"] == second["pid"] != third["pid"]
    assert first["nan"] is None
    assert third["ceiling"] == 5.0
    assert first["size"] == SMALL.name
    assert worker.run(part("nothing_to_run_on"), limit_seconds=300) == {
        "status": "not run",
        "why": "no files",
    }


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_part_that_never_ends_is_stopped_with_what_it_started(worker, tmp_path):
    pids = tmp_path / "pids"
    worker.run(part("fine"), limit_seconds=300)
    outcome = worker.run(part("hangs", arguments=(pids,)), limit_seconds=2)

    assert outcome == {"status": "failed", "error": "stopped after 2 s"}
    for pid in pids.read_text().split():
        wait_for(lambda pid=int(pid): has_ended(pid))
    assert worker.run(part("fine"), limit_seconds=300)["status"] == "ok"


def test_the_answer_of_a_part_that_forks_is_one(worker):
    children = [worker.run(part("forks"), limit_seconds=300)["results"]["child"] for _ in range(3)]
    assert all(children)
    assert worker.run(part("fine"), limit_seconds=300)["results"].keys() >= {"pid"}


def test_what_a_killed_part_left_on_the_disk_is_removed(worker, tmp_path):
    scratch = tmp_path / "scratch"
    worker.run(part("fills_the_disk", arguments=(scratch,)), limit_seconds=300)
    assert not Path(scratch.read_text()).exists()


CUT_OFF = """
import sys
from pathlib import Path
import benchmarks.gpu_check as check
from tests.benchmarks.gpu_parts import part
check.parts = lambda size, args: [
    part("fine"), part("is_killed"), part("hangs", arguments=(Path(sys.argv[2]),)), part("fine")
]
check.main(["--small", "--device", "cpu", "--out", sys.argv[1]])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_cut_off_keeps_what_it_had_and_leaves_no_process(tmp_path, how):
    out, pids = tmp_path / "r.json", tmp_path / "pids"
    run = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CUT_OFF, str(out), str(pids)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: pids.is_file() and len(pids.read_text().split()) == 2)
    os.kill(run.pid, how)
    printed, _ = run.communicate()

    report = json.loads(out.read_text("utf-8"))
    assert [(entry["part"], entry["status"]) for entry in report["parts"]] == [
        ("fine", "ok"),
        ("is_killed", "failed"),
    ]
    for pid in pids.read_text().split():
        wait_for(lambda pid=int(pid): has_ended(pid))
    assert ("interrupted; what was measured before stays" in printed) == (how == signal.SIGTERM)


def test_the_small_run_prints_its_plan_first(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.gpu_check.parts", lambda size, args: [part("fine", seconds=9)])
    main(["--small", "--device", "cpu", "--out", str(tmp_path / "r.json")])
    printed = capfd.readouterr().out
    assert printed.index("plan: at most 10 minutes") < printed.index("0 s  fine")

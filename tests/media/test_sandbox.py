from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from groundserve.deadline import Deadline
from groundserve.errors import MediaError
from groundserve.limits import GIB, Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.media._memory import needed_address_space
from groundserve.media._sandbox import be_killed_first

SANDBOX = "from groundserve.media._sandbox import allow_cpu_seconds, limit_resources\n"
SANDBOX += "limit_resources(address_space_bytes=2**32)\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param("allow_cpu_seconds(0)\nwhile True: pass", -signal.SIGXCPU, id="cpu"),
        pytest.param(
            "[allow_cpu_seconds(0) or sum(range(10**6)) for _ in range(120)]", 0, id="cpu_renewed"
        ),
        pytest.param(
            "try: bytearray(2**32)\nexcept MemoryError: exit(3)",
            3,
            id="memory",
        ),
        pytest.param(
            "import os\ntry: os.write(os.memfd_create('x'), b'x')\nexcept OSError: exit(4)",
            4,
            id="files",
        ),
    ],
)
def test_limits_hold(code: str, status: int) -> None:
    run = subprocess.run([sys.executable, "-c", SANDBOX + code], timeout=300)
    assert run.returncode == status


def test_workers_are_killed_first(workers: MediaWorkers, deadline: Deadline) -> None:
    with pytest.raises(MediaError):  # a job starts the worker
        read(workers, deadline)
    (pid,) = workers.pids()
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


def read(workers: MediaWorkers, deadline: Deadline) -> None:
    with (
        VideoSource.from_bytes(b"no video", limits=workers.limits) as source,
        workers.open(source, deadline=deadline),
    ):
        pass


def test_without_proc_a_worker_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, text: str) -> None:
        raise PermissionError(f"{self} is read-only, not {text}")

    monkeypatch.setattr(Path, "write_text", refuse)
    be_killed_first()


@pytest.mark.parametrize("num_threads", [1, 8])
def test_address_space_follows_the_ceiling(num_threads: int) -> None:
    small, default = (
        needed_address_space(limits, num_threads=num_threads)
        for limits in (Limits(max_frame_pixels=1920 * 1080), Limits())
    )
    # What 16 references, a picture a thread, one that waits and RGB take of 10 bits, to a few rows.
    pictures = (16 + num_threads + 1 + 2) * 3
    assert default - small == pictures * (Limits().max_frame_pixels - 1920 * 1080)
    assert 1 * GIB < small < 3 * GIB
    assert 3 * GIB < default < 5.5 * GIB

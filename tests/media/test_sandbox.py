from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from groundserve.errors import MediaError
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline

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

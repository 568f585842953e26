from __future__ import annotations

import os
import subprocess
import sys

import pytest

from groundserve.errors import UnavailableError
from groundserve.serving import host_memory as module
from groundserve.serving.host_memory import check_memory

MIB = 1024**2
HOLD = "import sys; held = bytearray(b'x') * (64 << 20); print('', flush=True); sys.stdin.read()"


@pytest.fixture
def server():
    """A session of one process that holds 64 MiB."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_what_the_first_server_takes_must_be_left_for_the_second(server, monkeypatch):
    monkeypatch.setattr(module, "_available_bytes", lambda: 512 * MIB)
    check_memory(server, "cpu")
    monkeypatch.setattr(module, "_available_bytes", lambda: 64 * MIB)
    message = r"needs about \d+ MiB of memory, as much as the first takes now, and 64 MiB are left"
    with pytest.raises(UnavailableError, match=message):
        check_memory(server, "cpu")


@pytest.mark.parametrize(
    ("limit", "path", "expected_mib"),
    [("max", "/a", 1000), (str(300 * MIB), "/a", 210), (str(300 * MIB), "/of/the/host", 210)],
)
def test_control_group_counts_where_it_has_a_limit(
    tmp_path, monkeypatch, limit, path, expected_mib
):
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 1024000 kB\n")
    (proc / "self" / "cgroup").write_text(f"0::{path}\n")
    group = groups / "a" if path == "/a" else groups
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{100 * MIB}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {10 * MIB}\n")
    monkeypatch.setattr(module, "_PROC", proc)
    monkeypatch.setattr(module, "_CGROUPS", groups)
    assert module._available_bytes() == expected_mib * MIB


def test_gpu_that_is_fuller_than_half_has_no_room(monkeypatch):
    monkeypatch.setattr(module, "_available_bytes", lambda: 1 << 60)
    monkeypatch.setattr(module, "gpu_memory", lambda: (50 * MIB, 60 * MIB))
    check_memory(os.getsid(0), "cuda")
    monkeypatch.setattr(module, "gpu_memory", lambda: (60 * MIB, 50 * MIB))
    with pytest.raises(UnavailableError, match=r"60 MiB of memory of the GPU.*50 MiB are left"):
        check_memory(os.getsid(0), "cuda")

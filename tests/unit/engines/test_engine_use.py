from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from groundserve.engines.engine_use import find_use, mark_in_use


@pytest.fixture
def engines(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    return tmp_path


def test_servers_are_named_as_long_as_they_serve(engines):
    assert find_use(engines) is None
    with mark_in_use(engines):
        assert find_use(engines).pids == (os.getpid(),)
    assert find_use(engines) is None


def test_dead_server_does_not_count_nor_do_its_children(engines):
    code = (
        "import os, pathlib, subprocess, sys, time\n"
        "from groundserve.engines.engine_use import mark_in_use\n"
        "held = mark_in_use(pathlib.Path(sys.argv[1]))\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(engines)], stdout=subprocess.PIPE, text=True
    ) as server:
        child = int(server.stdout.readline())
        assert find_use(engines).pids == (server.pid,)
        server.kill()
    try:
        assert find_use(engines) is None
    finally:
        os.kill(child, 9)


def test_directory_that_cannot_be_written_is_marked_too(engines):
    (engines / "manifest.json").chmod(0o444)
    engines.chmod(0o555)
    try:
        with mark_in_use(engines):
            assert find_use(engines).pids == (os.getpid(),)
    finally:
        engines.chmod(0o755)


def test_new_directory_at_the_place_is_not_in_use(engines):
    with mark_in_use(engines):
        (engines / "manifest.json").unlink()
        (engines / "manifest.json").write_text("{}")
        assert find_use(engines) is None


def test_file_system_without_locks_is_no_error(engines, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert mark_in_use(engines) is None
    assert find_use(engines) is None

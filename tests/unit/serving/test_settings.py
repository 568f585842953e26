"""A wrong setting is one error that names it, before anything starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.serving import sockets
from groundserve.serving.command import Ports
from groundserve.serving.settings import check_cache, check_log_file
from groundserve.serving.sockets import port_holder


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_port_out_of_range_is_named(port):
    expected = rf"grpc_port \(--grpc-port\) must be from 0 to 65535, got {port}"
    with pytest.raises(InvalidRequestError, match=expected):
        Ports(http=0, grpc=port, metrics=0)


def test_same_port_twice_is_named():
    expected = r"http_port and metrics_port \(--metrics-port\) must differ, got 8000"
    with pytest.raises(InvalidRequestError, match=expected):
        Ports(http=8000, grpc=0, metrics=8000)


def test_holder_of_a_port_that_may_not_be_seen_is_said_to_be_so(monkeypatch, tmp_path):
    (tmp_path / "net").mkdir()
    for table in ("tcp", "tcp6"):
        (tmp_path / "net" / table).write_bytes(Path("/proc/net", table).read_bytes())
    (tmp_path / "1").mkdir()  # whose descriptors are not shown
    monkeypatch.setattr(sockets, "_PROC", tmp_path)
    assert port_holder(1) == "a process that this user cannot see"


def test_log_file_is_made_for_this_user_and_appended_to(tmp_path):
    log = tmp_path / "log"
    check_log_file(log)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    log.write_text("line\n")
    check_log_file(log)
    assert log.read_text() == "line\n"
    check_log_file(None)
    check_log_file(Path(os.devnull))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none/log", "cannot be made: .*/none is no folder"),
        ("file/log", "cannot be written to: Not a directory"),
        ("folder", "must be a file, and is not one"),
        ("fifo", "must be a file, and is not one"),
        ("read_fifo", "must be a file, and is not one"),
        ("link", "cannot be made"),
    ],
)
def test_log_file_that_takes_no_lines_is_named(tmp_path, name, problem):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("none/log")
    for fifo in ("fifo", "read_fifo"):
        os.mkfifo(tmp_path / fifo)
    reader = os.open(tmp_path / "read_fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(
            InvalidRequestError, match=rf"\(--log-file\) {tmp_path / name} {problem}"
        ):
            check_log_file(tmp_path / name)
    finally:
        os.close(reader)


def test_log_file_that_may_not_be_written_is_named(tmp_path, monkeypatch):
    """Faked: root may write whatever the mode."""

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InvalidRequestError, match="cannot be written to: Permission denied"):
        check_log_file(tmp_path / "log")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GROUNDSERVE_CACHE_DIR": "{}/none/cache"}, r"\(--cache-dir\) .*is missing"),
        ({"GROUNDSERVE_CACHE_DIR": "cache"}, "GROUNDSERVE_CACHE_DIR must be an absolute path"),
        (
            {"GROUNDSERVE_CACHE_DIR": "{}/cache", "GROUNDSERVE_CACHE_BYTES": "0"},
            "GROUNDSERVE_CACHE_BYTES must be > 0",
        ),
    ],
)
def test_cache_is_checked_as_the_models_will(tmp_path, environment, expected):
    environment = {name: value.format(tmp_path) for name, value in environment.items()}
    with pytest.raises(InvalidRequestError, match=expected):
        check_cache(environment)

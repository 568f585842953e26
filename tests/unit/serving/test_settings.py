"""A wrong setting is one error that names it, before anything starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from groundserve.serving import sockets
from groundserve.serving.settings import check_log_file
from groundserve.serving.sockets import port_holder


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

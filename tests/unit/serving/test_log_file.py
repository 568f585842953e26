from __future__ import annotations

import logging

from groundserve.serving.log_file import open_log


def test_new_log_is_for_its_user_alone(tmp_path, caplog):
    path = tmp_path / "log"
    for line in (b"one\n", b"two\n"):
        with open_log(path) as log:
            log.write(line)
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert not caplog.records


def test_log_that_others_may_read_stays_so_and_is_named(tmp_path, caplog):
    caplog.set_level(logging.INFO, "groundserve.serving.events")
    path = tmp_path / "log"
    path.touch()
    path.chmod(0o640)
    open_log(path).close()
    assert path.stat().st_mode & 0o777 == 0o640
    (record,) = caplog.records
    assert record.getMessage() == "log_file_is_shared"
    assert record.fields == {"file": str(path), "mode": "0640"}

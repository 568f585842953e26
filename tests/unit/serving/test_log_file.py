from __future__ import annotations

import logging

from groundserve.serving.log_file import last_lines, open_log


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


def test_end_of_a_log_is_read_alone_however_long_it_is(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as log:
        log.truncate(10**13)  # a hole: it takes no room, and nobody reads it as a whole
        log.seek(0, 2)
        log.write(b"\none\ntwo \xff\nthree\n")
    assert last_lines(path, 2) == ["two \N{REPLACEMENT CHARACTER}", "three"]
    assert len(last_lines(path, 10)) == 4


def test_log_that_was_moved_away_does_not_hide_what_failed(tmp_path):
    assert last_lines(tmp_path / "log", 2) == ["(No such file or directory)"]

"""Triton's log: where it may lie, who may read it, and what its end says."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from groundserve.serving.settings import open_log, reason_in_log


def test_new_log_is_for_its_user_alone(tmp_path, caplog):
    path = tmp_path / "log"
    for line in (b"one\n", b"two\n"):
        with open_log(path) as log:
            log.write(line)
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
    open_log(Path(os.devnull)).close()
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


def test_models_that_did_not_load_are_found_before_what_a_crash_logs(tmp_path):
    line = (
        "E1123 16:36:56.503082 {} model_lifecycle.cc:642] \"failed to load '{}' version 1: {}\"\n"
    )
    log = tmp_path / "log"
    log.write_text(
        line.format(41, "generation", "Internal: of another server")
        + line.format(42, "grounding", r"Internal: cannot load it\n\nAt:\n  engine.py(1): open\n")
        + line.format(42, "front", "Internal: no memory")
        + "I1123 16:36:56.503101 42 model_lifecycle.cc:777] \"failed to load 'grounding'\"\n"
        + "Signal (6) received.\n"
        + "".join(f"{number:2}# 0x0 in tritonserver\n" for number in range(30))
    )
    assert reason_in_log(log, 42).splitlines()[1:] == [
        "cannot load the model grounding: Internal: cannot load it",
        "cannot load the model front: Internal: no memory",
    ]


def test_end_of_a_log_is_read_alone_however_long_it_is(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as log:
        log.truncate(10**13)  # a hole: it takes no room, and nobody reads it as a whole
        log.seek(0, 2)
        log.write(b"\none\ntwo \xff\nthree\n")
    assert reason_in_log(path, 1).splitlines()[-2:] == ["two \N{REPLACEMENT CHARACTER}", "three"]

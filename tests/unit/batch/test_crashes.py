"""Killed before any step on the disk, a run goes on as if nothing had been.

Python tells of each call that changes a file system before it is made (an audit event). The kill
is an exception there; from then on no such call below the run directory gets through, as none of a
dead process does, so that nothing is tidied up either.
"""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.batch.making import final_rows, make_corpus, run

STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link"}
REMOVALS = {"os.remove", "os.rmdir"}


class Killed(BaseException):
    pass


class _Disk:
    """What has been asked of the folder that is watched."""

    folder: str | None = None
    num_steps = 0
    kill_before: int | None = None

    def heard(self, event: str, arguments: tuple) -> None:
        if self.folder is None or not (event in STEPS or event == "open"):
            return
        path = _path(*arguments[:2]) if event in REMOVALS else arguments[0]
        if isinstance(path, int) or not os.fsdecode(path).startswith(self.folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if self.kill_before is not None and self.num_steps >= self.kill_before:
            raise Killed
        self.num_steps += 1


def _path(name: str, folder: int) -> str:
    """Return a path; the removal of a tree names files by a descriptor of their folder."""
    return name if folder < 0 else os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)


DISK = _Disk()
sys.addaudithook(DISK.heard)


@contextmanager
def watched(folder: Path, kill_before: int | None = None):
    """Count the steps below a folder, and let none through from one of them on."""
    DISK.folder, DISK.num_steps, DISK.kill_before = str(folder), 0, kill_before
    try:
        yield DISK
    finally:
        DISK.folder = None


def fails_q1(query):
    return query == "q1"


def checked(out: Path, expected: dict, failed: dict) -> set[str]:
    """Return the rows with an answer; each row that is there is what it must be, and once."""
    found = final_rows(out) if out.exists() else {}
    for id, row in found.items():
        assert row == (failed if row["error_kind"] else expected)[id]
    return {id for id, row in found.items() if not row["error_kind"]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Rows, and what an undisturbed run has of them: with all answers, and with what fails."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = make_corpus(folder / "videos", num_videos=2, num_queries=2)
    run(folder / "good", rows)
    run(folder / "bad", rows, fails=fails_q1)
    return rows, final_rows(folder / "good"), final_rows(folder / "bad")


def killed(out: Path, rows, step: int, **options) -> bool:
    """Run until a step; tell whether it was killed there."""
    try:
        with watched(out, kill_before=step):
            run(out, rows, **options)
    except Killed:
        return True
    return False


def test_killed_before_each_step_of_a_resume(corpus, tmp_path):
    """Whose first attempt has errors at rest, a damaged shard and leftovers of a kill."""
    rows, expected, failed = corpus

    def begun(name: str) -> Path:
        out = tmp_path / name
        run(out, rows, fails=fails_q1)
        damaged = sorted((out / "scores").glob("*.parquet"))[0]
        damaged.write_bytes(damaged.read_bytes()[:-1])
        (out / ".records.jsonl.1.partial").touch()
        return out

    whole = begun("whole")
    with watched(whole) as disk:
        run(whole, rows)
    assert final_rows(whole) == expected
    assert not list(whole.glob(".*.partial"))
    for step in range(disk.num_steps):
        out = begun(str(step))
        assert killed(out, rows, step)
        for damaged in (out / "scores").glob("*.parquet"):
            if damaged.read_bytes()[-4:] != b"PAR1":
                damaged.unlink()  # it has no rows that could be counted
        done = checked(out, expected, failed)
        run(out, rows)
        assert final_rows(out) == expected
        assert done <= checked(out, expected, failed)

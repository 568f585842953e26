import errno
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.files import locked
from groundserve.records import (
    SelectionRecord,
    add_records,
    append_records,
    check_records,
)

# Other programs' lines: spaces, order of keys, more keys, and ends of lines of their own.
FOREIGN = [
    b'{"doc_id":1,"index":[3,1],"model":"other"}\n',
    b"\n",
    b'  {"index": [9.0], "doc_id": "2"}\r\n',
    b'{"doc_id": 3, "index": []}\n',
]
KILLED_BEFORE_THE_NAME = """
import os, signal, sys
from groundserve.records import SelectionRecord, add_records
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
add_records(sys.argv[1], [SelectionRecord(doc_id=1, index=[7])], replace=True)
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(FOREIGN))
    return path


def record(doc_id, *index):
    return SelectionRecord(doc_id=doc_id, index=list(index))


def line(doc_id, *index):
    return json.dumps({"doc_id": doc_id, "index": list(index)}).encode() + b"\n"


def test_replacing_keeps_all_other_lines(path):
    path.chmod(0o640)
    add_records(path, [record(9, 5), record(2, 7)], replace=True)
    assert path.read_bytes() == b"".join([*FOREIGN[:2], line(2, 7), FOREIGN[3], line(9, 5)])
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == [path.name]


def test_killed_while_replacing_the_old_file_is_whole(path):
    command = [sys.executable, "-c", KILLED_BEFORE_THE_NAME, path]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"".join(FOREIGN)
    add_records(path, [record(1, 7)], replace=True)
    assert path.read_bytes() == b"".join([line(1, 7), *FOREIGN[1:]])


@pytest.mark.parametrize("replace", [False, True])
def test_a_full_disk_leaves_the_file_as_it_was(path, monkeypatch, replace):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: .*records.jsonl") as caught:
        add_records(path, [record(1 if replace else 8, 7)], replace=replace)
    assert not isinstance(caught.value, InvalidRequestError)
    assert path.read_bytes() == b"".join(FOREIGN)
    assert os.listdir(path.parent) == [path.name]


def test_many_writers_lose_no_line(path):
    """Each adds lines of its own while all of them replace one, so that the file changes, too."""
    add_records(path, [record(100, 0)])

    def work(worker):
        for step in range(10):
            number = 1000 + 10 * worker + step
            if step % 2:
                add_records(path, [record(number, *range(2000))])
            else:
                add_records(path, [record(100, number), record(number, 0)], replace=True)

    with ThreadPoolExecutor(8) as pool:  # each opens the file, so each has a lock of its own
        list(pool.map(work, range(8)))
    data = path.read_bytes()
    assert data.startswith(b"".join(FOREIGN))
    ids = [json.loads(raw)["doc_id"] for raw in data.splitlines() if raw.strip()]
    assert sorted(map(int, ids)) == [1, 2, 3, 100, *range(1000, 1080)]


def test_who_waited_writes_to_the_file_that_has_the_name_now(path):
    with locked(path):
        writer = threading.Thread(target=append_records, args=(path, [record(8, 1)]))
        writer.start()
        new = path.with_name("new")
        new.write_bytes(line(7, 1))
        new.replace(path)
    writer.join()
    assert path.read_bytes() == line(7, 1) + line(8, 1)


def test_where_no_file_can_be_made_or_written_is_named(path, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for place, message in (
        (tmp_path / "none" / "a.jsonl", "No such file"),
        (tmp_path / "fifo", "it is no file"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(InvalidRequestError, match=f"cannot write .*: .*{message}"):
            check_records(place, [9])

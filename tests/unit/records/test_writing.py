import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.records import (
    SelectionRecord,
    add_records,
    append_records,
    check_records,
    make_record,
)
from tests.results import make_result

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


def test_records_are_added_behind_others(path):
    add_records(path, [record(5, 1), record(6, 2)])
    assert path.read_bytes() == b"".join(FOREIGN) + line(5, 1) + line(6, 2)


def test_the_file_is_made_when_the_records_come(tmp_path):
    path = tmp_path / "new.jsonl"
    check_records(path, [5])
    assert not path.exists()
    add_records(path, [record(5, 1)])
    assert path.read_bytes() == line(5, 1)


def test_a_name_that_is_no_utf_8_is_escaped(tmp_path):
    result = make_result("\udcff.mp4", ["Où?"])
    append_records(tmp_path / "a.jsonl", [make_record(result, result.queries[0], doc_id=0)])
    value = json.loads((tmp_path / "a.jsonl").read_text("utf-8"))
    assert (value["video_path"], value["contexts"]) == ("\udcff.mp4", "Où?")


@pytest.mark.parametrize("write", [check_records, add_records], ids=["check", "add"])
@pytest.mark.parametrize(("doc_id", "number"), [(1, 1), (2, 3), (3, 4)])
def test_an_id_that_is_there_is_named_with_its_line(path, write, doc_id, number):
    items = [4, doc_id] if write is check_records else [record(4, 1), record(doc_id, 1)]
    with pytest.raises(
        InvalidRequestError, match=f"records.jsonl, line {number}: doc_id {doc_id} is there already"
    ):
        write(path, items)
    assert path.read_bytes() == b"".join(FOREIGN)


def test_a_refusal_that_is_kept_does_not_keep_the_lock(path):
    with pytest.raises(InvalidRequestError, match="is there already") as kept:
        check_records(path, [1])
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert kept.value.__traceback__ is not None


def test_replacing_keeps_all_other_lines(path):
    path.chmod(0o640)
    add_records(path, [record(9, 5), record(2, 7)], replace=True)
    assert path.read_bytes() == b"".join([*FOREIGN[:2], line(2, 7), FOREIGN[3], line(9, 5)])
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == [path.name]


def test_replacing_writes_through_a_link(path, tmp_path):
    link = tmp_path / "elsewhere" / "link.jsonl"
    link.parent.mkdir()
    link.symlink_to(path)
    add_records(link, [record(1, 7)], replace=True)
    assert link.is_symlink()
    assert path.read_bytes() == b"".join([line(1, 7), *FOREIGN[1:]])


def test_of_two_lines_with_one_id_none_is_chosen_to_be_replaced(path):
    path.write_bytes(line(1, 1) + line(2, 1) + line(1, 2))
    with pytest.raises(InvalidRequestError, match="line 3: doc_id 1 is there already, in line 1"):
        check_records(path, [1], replace=True)


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
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = threading.Thread(target=append_records, args=(path, [record(8, 1)]))
        writer.start()
        new = path.with_name("new")
        new.write_bytes(line(7, 1))
        new.replace(path)
    writer.join()
    assert path.read_bytes() == line(7, 1) + line(8, 1)


@pytest.mark.parametrize("write", [check_records, add_records, append_records])
def test_nothing_is_added_behind_half_a_line(path, write):
    path.write_bytes(line(7, 1) + line(8, 1)[:-1])
    items = [9] if write is check_records else [record(9, 1)]
    with pytest.raises(InvalidRequestError, match=r"line( 2)?: no newline at its end"):
        write(path, items)
    assert path.read_bytes() == line(7, 1) + line(8, 1)[:-1]


@pytest.mark.parametrize("raw", [b"nonsense\n", b"\xff\n", b'{"loss": 1.5}\n'])
def test_nothing_is_added_to_a_file_of_something_else(path, raw):
    path.write_bytes(line(7, 1) + raw)
    with pytest.raises(InvalidRequestError, match=r"records.jsonl, line 2: not "):
        check_records(path, [9])


def test_ids_of_one_call_differ(path):
    with pytest.raises(InvalidRequestError, match="its own id, got 7 twice"):
        check_records(path, [8, "7", 7])


def test_where_no_file_can_be_made_or_written_is_named(path, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for place, message in (
        (tmp_path / "none" / "a.jsonl", "none is no folder"),
        (path / "a.jsonl", "Not a directory"),
        (tmp_path, "it is a folder"),
        (tmp_path / "fifo", "it is no file"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(InvalidRequestError, match=f"cannot write .*: .*{message}"):
            check_records(place, [9])


@pytest.mark.parametrize("replace", [False, True])
def test_rights_are_checked(path, monkeypatch, replace):
    # Whoever runs the tests may be root, for whom every file may be written.
    refused = path.parent if replace else path
    monkeypatch.setattr(os, "access", lambda place, mode: os.fspath(place) != os.fspath(refused))
    with pytest.raises(InvalidRequestError, match=r"cannot write .*: .* may not be"):
        check_records(path, [9], replace=replace)

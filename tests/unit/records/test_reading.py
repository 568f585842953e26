import pytest

from groundserve.errors import InvalidRequestError
from groundserve.records import read_records

GOOD = b'{"doc_id": 1, "index": [3, 1]}\n'


def test_the_first_line_of_a_doc_id_counts(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + b'\n{"doc_id": 1, "index": [9]}\r\n{"doc_id": "1", "index": [8]}')
    assert read_records(path) == {1: [3, 1]}


def test_a_question_may_hold_what_ends_lines_elsewhere(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"doc_id": "a", "index": [1], "contexts": "x\u2028y\x85z"}\n', "utf-8")
    assert read_records(path) == {"a": [1]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"doc_id": 1, "index": [1', "not JSON"),
        (b'{"doc_id": 1, "index": [1]}\xff', "not UTF-8"),
        (b'{"doc_id": 2, "index": [Infinity]}', "not a record with doc_id and index"),
        (b'{"doc_id": true, "index": []}', "doc_id must be a whole number or text, got true"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + line + b"\n")
    with pytest.raises(InvalidRequestError, match=f"a.jsonl, line 2: {message}"):
        read_records(path)

import json

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.records import compare_files, compare_records, kendall_tau


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 1 / 3),
        ([1, 2], [3, 4], None),
    ],
)
def test_kendall_tau(first, second, expected):
    assert kendall_tau(first, second) == (None if expected is None else pytest.approx(expected))


def test_compare_counts_overlap_of_the_first_k():
    first = {1: [1, 2, 3, 4], 2: [5, 6], 3: [0]}
    second = {1: [2, 1, 9, 8], 2: [6, 7], 4: [0]}
    got = compare_records(first, second, top_k=2)
    assert got.overlap_at_k == pytest.approx((1.0 + 0.5) / 2)
    assert (got.num_questions, got.num_only_in_first, got.num_only_in_second) == (2, 1, 1)
    assert got.kendall_tau == pytest.approx(-1.0)


def write(path, *values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@pytest.mark.parametrize("name", ["contexts", "video_path"])
def test_one_id_for_two_questions_is_an_error(tmp_path, name):
    lines = [{"doc_id": 0, "index": [1, 2], name: value} for value in ("a", "a", "b")]
    path = write(tmp_path / "a.jsonl", *lines)
    with pytest.raises(
        InvalidRequestError,
        match=rf"a.jsonl, line 3: doc_id 0 stands for another question in line 1 \(their {name}",
    ):
        compare_files(path, path, top_k=2)

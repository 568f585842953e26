import json
import tracemalloc

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.records import compare_files, compare_records, kendall_tau


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 1 / 3),
        ([1, 2, 9], [8, 2, 1], -1.0),
        ([1], [1], None),
        ([1, 2], [3, 4], None),
    ],
)
def test_kendall_tau(first, second, expected):
    assert kendall_tau(first, second) == (None if expected is None else pytest.approx(expected))


def test_a_ranking_of_every_frame_needs_no_table_of_all_pairs():
    ranking = list(range(3000))
    tracemalloc.start()
    try:
        assert kendall_tau(ranking, ranking[::-1]) == -1.0
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 3000**2


def test_compare_counts_overlap_of_the_first_k():
    first = {1: [1, 2, 3, 4], 2: [5, 6], 3: [0]}
    second = {1: [2, 1, 9, 8], 2: [6, 7], 4: [0]}
    got = compare_records(first, second, top_k=2)
    assert got.overlap_at_k == pytest.approx((1.0 + 0.5) / 2)
    assert (got.num_questions, got.num_only_in_first, got.num_only_in_second) == (2, 1, 1)
    assert got.kendall_tau == pytest.approx(-1.0)


def test_compare_of_short_lists_uses_what_is_there():
    assert compare_records({1: [4, 5]}, {1: [5, 4]}, top_k=32).overlap_at_k == 1.0


def test_compare_refuses_files_that_share_nothing():
    with pytest.raises(InvalidRequestError, match=r"share no doc_id: 1 .* first, 2 "):
        compare_records({1: [1]}, {2: [1]}, top_k=1)


def test_compare_refuses_k_of_zero():
    with pytest.raises(InvalidRequestError, match="top_k must be >= 1, got 0"):
        compare_records({1: [1]}, {1: [1]}, top_k=0)


def write(path, *values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_files_are_compared_and_what_has_no_pair_is_counted(tmp_path):
    first = [{"doc_id": 0, "index": [3, 1]}, {"doc_id": 0, "index": [9, 8]}]
    first += [{"doc_id": 5, "index": [1]}]
    second = [{"doc_id": "0", "index": [3, 2]}, {"doc_id": "talk-1", "index": [1]}]
    got = compare_files(
        write(tmp_path / "a.jsonl", *first), write(tmp_path / "b.jsonl", *second), top_k=2
    )
    assert (got.num_questions, got.overlap_at_k) == (1, 0.5)
    assert (got.num_only_in_first, got.num_repeated_in_first) == (1, 1)
    assert (got.num_only_in_second, got.num_repeated_in_second) == (1, 0)


@pytest.mark.parametrize("name", ["contexts", "video_path"])
def test_one_id_for_two_questions_is_an_error(tmp_path, name):
    lines = [{"doc_id": 0, "index": [1, 2], name: value} for value in ("a", "a", "b")]
    path = write(tmp_path / "a.jsonl", *lines)
    with pytest.raises(
        InvalidRequestError,
        match=rf"a.jsonl, line 3: doc_id 0 stands for another question in line 1 \(their {name}",
    ):
        compare_files(path, path, top_k=2)


def test_a_scored_file_scored_again_is_no_error(tmp_path):
    line = {"doc_id": 0, "index": [1, 2], "contexts": "a", "video_path": "a.mp4"}
    path = write(tmp_path / "a.jsonl", line, line)
    assert compare_files(path, path, top_k=2).num_repeated_in_second == 1


def test_k_is_checked_before_the_files_are_read(tmp_path):
    with pytest.raises(InvalidRequestError, match="top_k must be >= 1, got 0"):
        compare_files(tmp_path / "none", tmp_path / "none", top_k=0)


def test_an_empty_file_is_named(tmp_path):
    path = write(tmp_path / "empty.jsonl")
    with pytest.raises(InvalidRequestError, match=r"empty.jsonl holds no records"):
        compare_files(path, path, top_k=1)

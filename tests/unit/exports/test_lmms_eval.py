"""Files for the forks of lmms-eval."""

from pathlib import Path

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.exports import ExportOptions, export, read_numbers
from tests.unit.exports.made import (
    BIKES,
    TALK,
    write_answers,
    write_batch,
    write_records,
)
from tests.unit.exports.readers import read_indices

GOLDENS = Path(__file__).parent / "goldens"
TIME = ExportOptions(order="time")


@pytest.fixture
def scored(tmp_path):
    return write_batch(tmp_path / "scored", BIKES, TALK)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "frames.jsonl"


def test_time_order_is_as_by_hand(scored, out):
    exported = export(scored, out, "lmms-eval", TIME)
    assert out.read_bytes() == (GOLDENS / "time_order.jsonl").read_bytes()
    assert exported.most_frames == 2


def test_questions_without_ids_are_counted_from_the_first_number(tmp_path, out):
    source = write_answers(tmp_path / "a.jsonl", TALK, BIKES)
    export(source, out, "lmms-eval", ExportOptions(doc_id=2))
    # Best first, by hand: of equal logits the earlier.
    assert read_indices(out) == {2: [120, 30, 0, 60, 90], 3: [25, 50, 0, 75]}


def test_an_id_of_text_is_refused_with_its_row(tmp_path, out):
    run = write_batch(tmp_path / "run", BIKES | {"id": "bikes-82990a5c3116"})
    with pytest.raises(InvalidRequestError, match=r'row 1: the id must be .*"bikes-82990a5c3116"'):
        export(run, out, "lmms-eval")
    assert list(tmp_path.iterdir()) == [run]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 1}', '"a" and "b" have the same number 1'),
        ('{"a": 1, "a": 2}', "each key once"),
        ('{"a": "1"}', 'the number of "a" must be a whole number >= 0, got "1"'),
        ("[1]", "one JSON object"),
    ],
)
def test_numbers_that_are_wrong_are_refused(text, message, tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match=message):
        read_numbers(path)


def test_two_rows_of_one_number_are_refused(tmp_path, out):
    """Also "07", which readers take for 7."""
    run = write_batch(tmp_path / "run", BIKES, TALK | {"id": "07"})
    with pytest.raises(InvalidRequestError, match=r"0001\.parquet, row 1: 7 is the id of .*0000"):
        export(run, out, "lmms-eval")
    assert not out.exists()


def test_answers_need_the_first_number(tmp_path, out):
    answers = write_answers(tmp_path / "a.jsonl", BIKES)
    with pytest.raises(InvalidRequestError, match=r"line 1, question 1: answers .* have no ids"):
        export(answers, out, "lmms-eval")


def sampled(**changed):
    """Return `BIKES` as a video of 30,000 frames sampled otherwise."""
    indices = changed["frame_indices"]
    scores = np.linspace(0, 1, len(indices)).tolist()
    return (
        BIKES
        | changed
        | {
            "num_source_frames": 30_000,
            "pts_seconds": [i / 25 for i in indices],
            "frame_logits": scores,
            "frame_scores": scores,
            "selected_frames": indices[-1:],
        }
    )


# Rule B: every 25th of 30,000 are 1,200 candidates, of which int(i * 1200 / 512) are taken.
RULE_B = [25 * int(i * 1200 / 512) for i in range(512)]


def test_a_benchmark_takes_rule_b_at_512(tmp_path, out):
    run = write_batch(tmp_path / "run", sampled(frame_indices=RULE_B), TALK)
    exported = export(run, out, "lmms-eval", ExportOptions(is_benchmark=True))
    assert (exported.num_rows, exported.num_otherwise_sampled) == (2, 0)


@pytest.mark.parametrize(
    "indices",
    [
        pytest.param(RULE_B[:-1], id="511"),
        # Rule A: round((i + 1) * 1200 / 512 - 1), which ends on the last candidate.
        pytest.param([25 * round((i + 1) * 1200 / 512 - 1) for i in range(512)], id="rule A"),
    ],
)
def test_a_benchmark_refuses_all_else(indices, tmp_path, out):
    run = write_batch(tmp_path / "run", TALK, sampled(frame_indices=indices))
    with pytest.raises(InvalidRequestError, match=r"0001\.parquet, row 1: its frames were not"):
        export(run, out, "lmms-eval", ExportOptions(is_benchmark=True))
    assert not out.exists()
    assert export(run, out, "lmms-eval").num_otherwise_sampled == 1


def test_records_cannot_be_checked_for_a_benchmark(tmp_path, out):
    records = write_records(tmp_path / "r.jsonl", BIKES)
    with pytest.raises(UnsupportedError, match="do not say how frames were sampled"):
        export(records, out, "lmms-eval", ExportOptions(is_benchmark=True))


def test_records_select_nothing(tmp_path, out):
    records = write_records(tmp_path / "r.jsonl", BIKES)
    with pytest.raises(InvalidRequestError, match="say how many to take"):
        export(records, out, "lmms-eval", TIME)
    with pytest.raises(UnsupportedError, match="the selector spread takes a batch's folder"):
        export(records, out, "lmms-eval", ExportOptions(order="time", top_k=2, selector="spread"))
    export(records, out, "lmms-eval", ExportOptions(order="time", top_k=3))
    assert read_indices(out) == {7: [0, 25, 50]}

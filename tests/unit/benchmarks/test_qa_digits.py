"""MovingDigits as CG-Bench's records."""

import json

import pytest

from benchmarks.qa_digits import clue_intervals, make_records


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([4], [[4, 4.9]]),
        ([4, 5, 6], [[4, 6.9]]),
        ([0, 1, 7, 9, 10], [[0, 1.9], [7, 7.9], [9, 10.9]]),
    ],
)
def test_clues_end_before_the_next_second(seconds, expected):
    assert clue_intervals(seconds) == expected


def test_questions_that_one_digit_answers(tmp_path):
    def record(number, **fields):
        return {
            "id": f"test-{number}",
            "video": "videos/0.mp4",
            "question": "<image>\nWhich digit comes right after the five?",
            "answer": "The seven.",
            "frame_num": [3, 4],
            "type": "order",
            **fields,
        }

    records = [
        record(0),
        record(1, type="semantic"),
        record(2, frame_num=[]),
        record(3, answer="The seven and the two."),
        record(4, answer="The five."),
    ]
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    (made,) = make_records(path)
    assert (made["qid"], made["right_answer"], made["choices"][7]) == ("test-0", "H", "seven")
    assert made["question"] == "Which digit comes right after the five?"
    assert made["clue_intervals"] == [[3, 4.9]]

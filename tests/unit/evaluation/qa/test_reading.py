"""Records of the four benchmarks, as their files have them."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.reading import find_videos, read_questions

VIDEOMME = {
    "video_id": "001",
    "duration": "short",
    "videoID": "fFjv93ACGo8",
    "question_id": "001-1",
    "question": "What is shown?",
    "options": ["A. A cat.", "B. A dog.", "C. A cow.", "D. A hen."],
    "answer": "C",
}
MLVU = {
    "video_name": "movie.mp4",
    "task_type": "PQA",
    "question": "What is shown?\n(A) a cat\n(B) a dog\n(C) a cow\n(D) a hen",
    "answer": "C",
}
MLVU_PUBLIC = {
    "video": "movie.mp4",
    "question_type": "plotQA",
    "question": "What is shown?",
    "candidates": ["a cat", "a dog", "a cow"],
    "answer": "a cow",
}
LONGVIDEOBENCH = {
    "id": "86CxyhFV9MI_0",
    "video_path": "86CxyhFV9MI.mp4",
    "question": "What is shown?",
    "option0": "a cat",
    "option1": "a dog",
    "option2": "a cow",
    "option3": "N/A",
    "option4": "N/A",
    "correct_choice": 2,
    "duration_group": 600,
}
CGBENCH = {
    "qid": 7,
    "video_uid": "12",
    "question": "What is shown?",
    "choices": ["a cat", "a dog", "a cow"],
    "right_answer": "C",
    "clue_intervals": [[3, 4.5], [10, 10]],
}
RECORDS = {
    "videomme": VIDEOMME,
    "mlvu": MLVU,
    "longvideobench": LONGVIDEOBENCH,
    "cgbench": CGBENCH,
}


def read(tmp_path, layout, *records):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(records), "utf-8")
    return read_questions(path, layout=layout)


THREE = ("A. a cat", "B. a dog", "C. a cow")


@pytest.mark.parametrize(
    ("layout", "record", "expected"),
    [
        (
            "videomme",
            VIDEOMME,
            ("001-1", "fFjv93ACGo8", tuple(VIDEOMME["options"]), 4, "short", ()),
        ),
        ("mlvu", MLVU, ("0", "movie.mp4", (), 4, "PQA", ())),
        ("mlvu", MLVU_PUBLIC, ("0", "movie.mp4", (), 3, "plotQA", ())),
        (
            "longvideobench",
            LONGVIDEOBENCH,
            ("86CxyhFV9MI_0", "86CxyhFV9MI.mp4", THREE, 3, "600", ()),
        ),
        ("cgbench", CGBENCH, ("7", "12", THREE, 3, None, ((3.0, 4.5), (10.0, 10.0)))),
    ],
)
def test_each_benchmarks_record(tmp_path, layout, record, expected):
    (question,) = read(tmp_path, layout, record)
    names = ("key", "video", "options", "num_choices", "group", "spans")
    assert tuple(getattr(question, name) for name in names) == expected
    assert (question.number, question.answer) == (0, "C")
    text = "What is shown?\n(A) a cat\n(B) a dog\n(C) a cow"  # MLVU has its options inside
    assert question.text.startswith(text if layout == "mlvu" else "What is shown?")


def test_longvideobench_as_parquet_and_as_json(tmp_path):
    listed = {name: it for name, it in LONGVIDEOBENCH.items() if not name.startswith("option")}
    listed["candidates"] = ["a cat", "a dog", "a cow"]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([LONGVIDEOBENCH]), tmp_path / "set.parquet"
    )
    whole = read_questions(tmp_path / "set.parquet", layout="longvideobench")
    assert whole == read(tmp_path, "longvideobench", listed)


def test_json_lines(tmp_path):
    path = tmp_path / "set.jsonl"
    lines = [{**CGBENCH, "qid": number, "question": f"\u2028 {number}?"} for number in range(3)]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_text(text + "\n\n", "utf-8")
    questions = read_questions(path, layout="cgbench")
    assert [question.key for question in questions] == ["0", "1", "2"]
    assert questions[2].text == "\u2028 2?"


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("videomme", {"question_id": None}, "record 1: question_id must be text or a number"),
        ("videomme", {"videoID": "../x"}, "videoID must be a path below the media root"),
        ("mlvu", {"answer": "a cow"}, "answer must be a letter, or one of the candidates"),
        ("longvideobench", {"correct_choice": 3}, "correct_choice must be 0 to 2"),
        ("cgbench", {"clue_intervals": [[5, 3]]}, "clue_intervals must be pairs of seconds"),
        ("cgbench", {"qid": 7}, 'record 1: its id "7" is that of record 0 too'),
        ("cgbench", {"choices": ["x"] * 15}, "options must be 1 to 14, got 15"),
        ("cgbench", {"choices": ["x", "\ud800"]}, "choices must be Unicode"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(tmp_path, layout, change, message):
    good = RECORDS[layout]
    other = {"question_id": "x", "id": "x", "qid": 8}
    with pytest.raises(InvalidRequestError, match="record 1: ") as refused:
        read(tmp_path, layout, good, {**good, **other, **change})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[]", "holds no records"),
        (b"[1]", "entry 0: must be an object, got 1"),
        (b'{"a": 1}\n{', "line 2: not JSON"),
    ],
)
def test_a_file_that_holds_no_set(tmp_path, text, message):
    path = tmp_path / "set.json"
    path.write_bytes(text)
    with pytest.raises(InvalidRequestError, match=message):
        read_questions(path, layout="videomme")


def test_videos_are_found_by_the_endings_that_the_reference_tries(tmp_path):
    questions = read(tmp_path, "cgbench", CGBENCH, {**CGBENCH, "qid": 8, "video_uid": "b/13"})
    root = tmp_path / "root"
    (root / "b").mkdir(parents=True)
    (root / "12.mkv").touch()
    with pytest.raises(InvalidRequestError, match=r"1 of 2 videos are missing, the first is .*13"):
        find_videos(questions, root)
    (root / "b/13.MP4").touch()
    assert find_videos(questions, root) == {"12": root / "12.mkv", "b/13": root / "b/13.MP4"}
    with pytest.raises(InvalidRequestError, match="--media-root must be a folder"):
        find_videos(questions, root / "none")

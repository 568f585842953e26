"""Files of records, JSON, JSON Lines or Parquet; what each benchmark's hold, and the videos."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from groundserve.data_record import media_path, require_text
from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.evaluation.line_file import read_lines
from groundserve.evaluation.qa.question import BENCHMARKS, Layout, Question, Seconds
from groundserve.evaluation.videos import find_files, require_files
from groundserve.strict_json import is_finite_number, shown

_VIDEO_SUFFIXES = ("", ".mp4", ".MP4", ".mkv")
"""What the reference tries of a video that is named without its ending."""
_OPTION_MARK = re.compile(r"^\s*\(?([A-Z])[).]", re.MULTILINE)
_ABSENT = "N/A"
_NUM_LETTERS = 26


def read_questions(path: Path, *, layout: Layout) -> list[Question]:
    """Read a set of questions."""
    questions: list[Question] = []
    places: dict[str, int] = {}
    is_parquet = path.suffix == ".parquet"
    rows = _parquet_rows(path) if is_parquet else [record for _, record in read_lines(path)]
    for number, record in enumerate(rows):
        try:
            question = _parse_question(record, number, layout=layout)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{path}, record {number}: {error}") from error
        first = places.setdefault(question.key, number)
        if first != number:
            raise InvalidRequestError(
                f"{path}, record {number}: its id {shown(question.key)} is that of record {first} "
                "too; each answer is kept by its question's id"
            )
        questions.append(question)
    if not questions:
        raise InvalidRequestError(f"{path} holds no records")
    return questions


def find_videos(
    questions: Iterable[Question], media_root: Path, *, skip_missing: bool = False
) -> dict[str, Path]:
    """Return the file of each video that a question names; skipping, of those that are there."""
    names = dict.fromkeys(question.video for question in questions)
    if skip_missing and (found := find_files(names, media_root, _VIDEO_SUFFIXES)):
        return found
    hint = "" if skip_missing else ", and --skip-missing leaves out those that are not there"
    return require_files(names, media_root, _VIDEO_SUFFIXES, what="videos", hint=hint)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("train", "pyarrow") from error
    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidRequestError(f"cannot read {path} as Parquet") from error
    return rows


def _parse_question(record: Mapping[str, Any], number: int, *, layout: Layout) -> Question:
    known = {"key": str(number), "options": (), "group": None, **_PARSERS[layout](record)}
    known.setdefault("num_choices", len(known["options"]))
    question = Question(number=number, layout=layout, **known)
    # MLVU's options are inside its text, and its answers may lie past the letters that are read.
    if layout != "mlvu":
        letters, num_choices = BENCHMARKS[layout].letters, question.num_choices or 0
        if not 1 <= num_choices <= len(letters):
            raise InvalidRequestError(f"options must be 1 to {len(letters)}, got {num_choices}")
        if question.answer not in letters[:num_choices]:
            raise InvalidRequestError(
                f"the answer must be one of the {num_choices} options, got {question.answer}"
            )
    return question


# What a record holds is checked as it is taken.


def _text(record: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = record.get(name)
        if isinstance(value, str) and value:
            return require_text(value, name)
    raise InvalidRequestError(f"{' or '.join(names)} must be text, got {shown(record.get(name))}")


def _texts(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = record.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidRequestError(f"{name} must be a list of texts, got {shown(value)}")
    return tuple(require_text(one, name) for one in value)


def _id(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InvalidRequestError(f"{name} must be text or a number, got {shown(value)}")
    return str(value)


def _path(record: Mapping[str, Any], *names: str) -> str:
    return media_path(_text(record, *names), names[0])


def _letter(record: Mapping[str, Any], name: str, layout: Layout) -> str:
    value, letters = record.get(name), BENCHMARKS[layout].letters
    if not isinstance(value, str) or len(value) != 1 or value not in letters:
        raise InvalidRequestError(f"{name} must be one of {letters}, got {shown(value)}")
    return value


def _group(record: Mapping[str, Any], *names: str) -> str | None:
    return next((str(record[name]) for name in names if record.get(name) is not None), None)


def _lettered(options: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{_nth(place)}. {option}" for place, option in enumerate(options))


def _nth(place: int) -> str:
    return chr(ord("A") + place)


def _videomme(record: Mapping[str, Any]) -> dict[str, Any]:
    # lmms_eval/tasks/videomme/utils.py; its options begin with their letters.
    return {
        "key": _id(record, "question_id"),
        "video": _path(record, "videoID"),
        "text": _text(record, "question"),
        "options": _texts(record, "options"),
        "answer": _letter(record, "answer", "videomme"),
        "group": _group(record, "duration"),
    }


def _mlvu(record: Mapping[str, Any]) -> dict[str, Any]:
    # lmms_eval/tasks/mlvu/utils.py: `question` has its options inside, `answer` is a letter. The
    # data set's own files have `candidates` and the right one's text; what the reference's rows
    # were made of them with is not published, "(A) ..." is how later harnesses write them.
    text, answer = _text(record, "question"), record.get("answer")
    candidates = () if record.get("candidates") is None else _texts(record, "candidates")
    if len(candidates) > _NUM_LETTERS:
        raise InvalidRequestError(
            f"candidates must be at most {_NUM_LETTERS}, got {len(candidates)}"
        )
    if candidates and answer in candidates:
        lines = [f"({_nth(place)}) {candidate}" for place, candidate in enumerate(candidates)]
        text, answer = "\n".join([text, *lines]), _nth(candidates.index(answer))
    if not isinstance(answer, str) or not re.fullmatch("[A-Z]", answer):
        raise InvalidRequestError(
            f"answer must be a letter, or one of the candidates, got {shown(answer)}"
        )
    # A letter past D is right for some questions of the test split, and never read.
    return {
        "video": _path(record, "video_name", "video"),
        "text": text,
        "num_choices": len(set(_OPTION_MARK.findall(text))) or None,
        "answer": answer,
        "group": _group(record, "task_type", "question_type"),
    }


def _longvideobench(record: Mapping[str, Any]) -> dict[str, Any]:
    # lmms_eval/tasks/longvideobench/utils.py; the data set's JSON has a list in place of `option0`
    # to `option4`. Options that are left out are not counted by `correct_choice` there either way.
    if record.get("candidates") is not None:
        given = _texts(record, "candidates")
    else:
        values = [record.get(f"option{i}") for i in range(5)]
        given = tuple(value for value in values if isinstance(value, str))
    options = [option for option in given if option != _ABSENT]
    correct = record.get("correct_choice")
    if type(correct) is not int or not 0 <= correct < len(options):
        raise InvalidRequestError(
            f"correct_choice must be 0 to {len(options) - 1}, the options' places, "
            f"got {shown(correct)}; the test split has no answers"
        )
    return {
        "key": _id(record, "id"),
        "video": _path(record, "video_path"),
        "text": _text(record, "question"),
        "options": _lettered(options),
        "answer": _nth(correct),
        "group": _group(record, "duration_group"),
    }


def _cgbench(record: Mapping[str, Any]) -> dict[str, Any]:
    # lmms_eval/tasks/cgbench/utils.py; `clue_intervals` of CG-Bench/CG-Bench 440b30c,
    # run/save_as_jsons.py.
    return {
        "key": _id(record, "qid"),
        "video": _path(record, "video_uid"),
        "text": _text(record, "question"),
        "options": _lettered(_texts(record, "choices")),
        "answer": _letter(record, "right_answer", "cgbench"),
        "spans": _spans(record.get("clue_intervals")),
    }


_PARSERS: dict[Layout, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "videomme": _videomme,
    "mlvu": _mlvu,
    "longvideobench": _longvideobench,
    "cgbench": _cgbench,
}


def _spans(value: object) -> tuple[Seconds, ...]:
    spans = []
    for pair in value if isinstance(value, list) else ():
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(map(is_finite_number, pair))
        if not is_pair or not 0 <= pair[0] <= pair[1]:
            raise InvalidRequestError(
                f"clue_intervals must be pairs of seconds, 0 <= start <= end, one is {shown(pair)}"
            )
        spans.append((float(pair[0]), float(pair[1])))
    return tuple(spans)

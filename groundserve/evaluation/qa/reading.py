"""Files of records, JSON, JSON Lines or Parquet; what each benchmark's hold, and the videos."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.evaluation.line_file import read_lines
from groundserve.evaluation.qa.question import BENCHMARKS, Layout, Question, Seconds
from groundserve.strict_json import is_finite_number, shown

_VIDEO_SUFFIXES = ("", ".mp4", ".MP4", ".mkv")
"""What the reference tries of a video that is named without its ending."""
_OPTION_MARK = re.compile(r"^\s*\(?([A-Z])[).]", re.MULTILINE)
_ABSENT = "N/A"
_NUM_LETTERS = 26


def read_questions(path: Path, *, layout: Layout) -> list[Question]:
    """Read a set of questions.

    Raises:
        InvalidRequestError: The file cannot be read, holds no record, a record lacks what its
            layout needs, or two have one id; the message names the record.
        MissingExtraError: It is Parquet, and pyarrow is not installed.
    """
    questions: list[Question] = []
    places: dict[str, int] = {}
    for number, record in enumerate(_rows(path)):
        try:
            question = parse_question(record, number, layout=layout)
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
    """Return the file of each video that a question names."""
    if not media_root.is_dir():
        raise InvalidRequestError(f"--media-root must be a folder, {media_root} is none")
    names = dict.fromkeys(question.video for question in questions)
    found, missing = {}, []
    for name in names:
        places = (media_root / f"{name}{suffix}" for suffix in _VIDEO_SUFFIXES)
        place = next((path for path in places if path.is_file()), None)
        if place is None:
            missing.append(name)
        else:
            found[name] = place
    if missing and not (skip_missing and found):
        skip = "" if skip_missing else ", and --skip-missing leaves out those that are not there"
        raise InvalidRequestError(
            f"{len(missing)} of {len(names)} videos are missing, the first is "
            f"{media_root / missing[0]}; --media-root is the folder that the records' videos "
            f"start from{skip}"
        )
    return found


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    return [record for _, record in read_lines(path)]


def _parquet_rows(path: Path) -> list[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("train", "pyarrow") from error
    try:
        rows: list[Any] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidRequestError(f"cannot read {path} as Parquet") from error
    return rows


def parse_question(record: Mapping[str, Any], number: int, *, layout: Layout) -> Question:
    """Return the question that a record holds, whose place in the file is `number`.

    Raises:
        InvalidRequestError: It lacks what its layout needs, names a video outside the root, has
            more options than its layout has letters, or an answer that is none of them.
    """
    found = _PARSERS[layout](_Fields(record))
    known = {"key": str(number), "options": (), "group": None, **found}
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


class _Fields:
    """A record, whose fields are checked as they are taken."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record

    def get(self, name: str) -> Any:
        return self._record.get(name)

    def text(self, *names: str) -> str:
        """Return the first of some fields that is there."""
        for name in names:
            value = self.get(name)
            if isinstance(value, str) and value:
                _require_unicode(name, value)
                return value
        raise InvalidRequestError(f"{' or '.join(names)} must be text, got {shown(self.get(name))}")

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.get(name)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise InvalidRequestError(f"{name} must be a list of texts, got {shown(value)}")
        for one in value:
            _require_unicode(name, one)
        return tuple(value)

    def id(self, name: str) -> str:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise InvalidRequestError(f"{name} must be text or a number, got {shown(value)}")
        return str(value)

    def path(self, *names: str) -> str:
        """Return a path; a data file comes from elsewhere, what it names stays below the root."""
        value = self.text(*names)
        parts = PurePosixPath(value)
        if parts.is_absolute() or ".." in parts.parts:
            raise InvalidRequestError(
                f"{names[0]} must be a path below the media root without '..', got {shown(value)}"
            )
        return value

    def letter(self, name: str, layout: Layout) -> str:
        value = self.get(name)
        letters = BENCHMARKS[layout].letters
        if not isinstance(value, str) or len(value) != 1 or value not in letters:
            raise InvalidRequestError(f"{name} must be one of {letters}, got {shown(value)}")
        return value

    def group(self, *names: str) -> str | None:
        value = next((self.get(name) for name in names if self.get(name) is not None), None)
        return None if value is None else str(value)


def _videomme(fields: _Fields) -> dict[str, Any]:
    # lmms_eval/tasks/videomme/utils.py; its options begin with their letters.
    return {
        "key": fields.id("question_id"),
        "video": fields.path("videoID"),
        "text": fields.text("question"),
        "options": fields.texts("options"),
        "answer": fields.letter("answer", "videomme"),
        "group": fields.group("duration"),
    }


def _mlvu(fields: _Fields) -> dict[str, Any]:
    # lmms_eval/tasks/mlvu/utils.py: `question` has its options inside, `answer` is a letter. The
    # data set's own files have `candidates` and the right one's text; what the reference's rows
    # were made of them with is not published, "(A) ..." is how later harnesses write them.
    text, answer = fields.text("question"), fields.get("answer")
    candidates = () if fields.get("candidates") is None else fields.texts("candidates")
    if len(candidates) > _NUM_LETTERS:
        raise InvalidRequestError(
            f"candidates must be at most {_NUM_LETTERS}, got {len(candidates)}"
        )
    if candidates and answer in candidates:
        lines = [f"({_letter(i)}) {candidate}" for i, candidate in enumerate(candidates)]
        text = "\n".join([text, *lines])
        answer = _letter(candidates.index(answer))
    if not isinstance(answer, str) or not re.fullmatch("[A-Z]", answer):
        raise InvalidRequestError(
            f"answer must be a letter, or one of the candidates, got {shown(answer)}"
        )
    # A letter past D is right for some questions of the test split, and never read.
    return {
        "video": fields.path("video_name", "video"),
        "text": text,
        "num_choices": len(set(_OPTION_MARK.findall(text))) or None,
        "answer": answer,
        "group": fields.group("task_type", "question_type"),
    }


def _longvideobench(fields: _Fields) -> dict[str, Any]:
    # lmms_eval/tasks/longvideobench/utils.py; the data set's JSON has a list in place of `option0`
    # to `option4`. Options that are left out are not counted by `correct_choice` there either way.
    if fields.get("candidates") is not None:
        given = fields.texts("candidates")
    else:
        values = [fields.get(f"option{i}") for i in range(5)]
        given = tuple(value for value in values if isinstance(value, str))
    options = [option for option in given if option != _ABSENT]
    correct = fields.get("correct_choice")
    if type(correct) is not int or not 0 <= correct < len(options):
        raise InvalidRequestError(
            f"correct_choice must be 0 to {len(options) - 1}, the options' places, "
            f"got {shown(correct)}; the test split has no answers"
        )
    return {
        "key": fields.id("id"),
        "video": fields.path("video_path"),
        "text": fields.text("question"),
        "options": _lettered(options),
        "answer": _letter(correct),
        "group": fields.group("duration_group"),
    }


def _cgbench(fields: _Fields) -> dict[str, Any]:
    # lmms_eval/tasks/cgbench/utils.py; `clue_intervals` of CG-Bench/CG-Bench 440b30c,
    # run/save_as_jsons.py.
    return {
        "key": fields.id("qid"),
        "video": fields.path("video_uid"),
        "text": fields.text("question"),
        "options": _lettered(fields.texts("choices")),
        "answer": fields.letter("right_answer", "cgbench"),
        "spans": _spans(fields.get("clue_intervals")),
    }


_PARSERS: dict[Layout, Callable[[_Fields], dict[str, Any]]] = {
    "videomme": _videomme,
    "mlvu": _mlvu,
    "longvideobench": _longvideobench,
    "cgbench": _cgbench,
}


def _spans(value: object) -> tuple[Seconds, ...]:
    spans = []
    for pair in value if isinstance(value, list) else ():
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(map(is_finite_number, pair))
            or not 0 <= pair[0] <= pair[1]
        ):
            raise InvalidRequestError(
                f"clue_intervals must be pairs of seconds, 0 <= start <= end, one is {shown(pair)}"
            )
        spans.append((float(pair[0]), float(pair[1])))
    return tuple(spans)


def _require_unicode(name: str, text: str) -> None:
    # JSON can spell half a surrogate pair, which no request can hold.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{name} must be Unicode, got {shown(text)}") from None


def _lettered(options: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{_letter(i)}. {option}" for i, option in enumerate(options))


def _letter(place: int) -> str:
    return chr(ord("A") + place)

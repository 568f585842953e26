"""A folder that keeps every answer of a run, so that none is asked for twice.

run.json          what decides the answers, and its fingerprint
questions.jsonl   of each question all but its texts
selections.jsonl  frames selected for a question, with the identity of the engine that did
answers.jsonl     an `Answer` a line, in the order they came
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.evaluation.line_file import append_lines, open_lines, read_ended_lines
from groundserve.evaluation.qa.arms import Arm
from groundserve.evaluation.qa.question import Question
from groundserve.evaluation.qa.replies import Reply, Usage, is_right
from groundserve.run_store import RUN_NAME, find_run, held_run, require_same
from groundserve.run_store import Run as RunFile
from groundserve.runtime.closing import Closing
from groundserve.storage import Storage, open_storage
from groundserve.strict_json import shown

_VERSION = 1
"""Raised whenever a folder of before cannot be gone on with."""
_QUESTIONS, _ANSWERS, _SELECTIONS = "questions.jsonl", "answers.jsonl", "selections.jsonl"
_PARTS = "parts"
_QUESTION_FIELDS = ("key", "video", "group", "answer", "num_choices", "spans")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A question, asked with the frames of one arm, and what came back."""

    key: str
    arm: Arm
    reply: Reply
    frame_indices: tuple[int, ...]
    """Ordinals of the frames that were shown, increasing."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a folder holds."""

    parts: dict[str, Any]
    questions: list[Question]
    """Without their texts."""
    answers: list[Answer]


class RunFolder(Closing):
    """Takes answers and selections; one process at a time."""

    def __init__(
        self, folder: Path, parts: Mapping[str, Any], questions: Sequence[Question]
    ) -> None:
        """Begin a run, or go on with it: a last line that was cut short is removed.

        Args:
            folder: New, empty, or of a run with the same parts, or without an answer or selection.
            parts: What decides the answers, by name; JSON values.
            questions: Of the set.
        """
        self._path = folder
        self._questions = {question.key: question for question in questions}
        self._lock = threading.Lock()
        settings = json.loads(json.dumps(parts))  # as JSON gives it back: a tuple is a list

        def check(run: RunFile) -> None:
            # A run that has kept nothing, as of a model's name with a slip in it, binds nobody.
            if _has_kept(folder):
                require_same(str(folder), _parts_of(run, folder), settings)

        with ExitStack() as files:
            storage, _ = files.enter_context(held_run(str(folder), _PARTS, check=check))
            if not _has_kept(folder):
                _begin(storage, settings, questions)
            self._answers = files.enter_context(open_lines(folder / _ANSWERS))
            self._selections = files.enter_context(open_lines(folder / _SELECTIONS))
            self.answers = {(answer.key, answer.arm): answer for answer in _read_answers(folder)}
            """By question and arm."""
            self.selections: dict[str, tuple[int, ...]] = {}
            """By question the ordinals of the frames selected for it."""
            self.engine: Any = None
            """Identity of the engine that selected them all; None where records say them."""
            for where, line in read_ended_lines(folder / _SELECTIONS):
                try:
                    self.selections[line["key"]] = tuple(line["frame_indices"])
                    self.engine = line["engine"]
                except (KeyError, TypeError) as error:
                    raise InvalidRequestError(f"{where}: no selection of a run") from error
            self._files = files.pop_all()

    def add(self, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns. Any thread may call it."""
        question, fields = self._questions[answer.key], asdict(answer.reply)
        text = fields.pop("text")
        line = {
            "key": answer.key,
            "arm": answer.arm,
            "reply": text,
            "is_right": is_right(question, text, is_refused=answer.reply.is_refused),
            **fields,
            "frame_indices": answer.frame_indices,
        }
        with self._lock:
            append_lines(self._answers, [line])
            self.answers[answer.key, answer.arm] = answer

    def add_selections(
        self, selections: Mapping[str, tuple[int, ...]], *, engine: Mapping[str, Any] | None
    ) -> None:
        """Keep ordinals by question, so that they need not be scored again.

        `engine` is the identity of what scored the frames; None where a file of records says them.
        """
        identity = None if engine is None else json.loads(json.dumps(engine))
        if self.selections and identity != self.engine:
            raise GroundserveError(
                f"another engine selected the frames of {self._path} before; answer into a new "
                "folder"
            )
        self.engine = identity
        self.selections.update(selections)
        lines = [
            {"key": key, "frame_indices": frames, "engine": identity}
            for key, frames in selections.items()
        ]
        append_lines(self._selections, lines)

    def close(self) -> None:
        """Let another process go on."""
        self._files.close()


def read_run(folder: Path) -> Run:
    """Read a run, finished or not, that another process may be writing."""
    run = find_run(open_storage(str(folder)), _PARTS)
    if run is None or not (folder / _QUESTIONS).exists():
        raise InvalidRequestError(f"{folder} is no folder of a run")
    parts = _parts_of(run, folder)
    known = {"layout": parts["layout"], "text": "", "options": ()}
    questions = [
        Question(**{**line, "spans": tuple(map(tuple, line["spans"]))}, **known, number=number)
        for number, (_, line) in enumerate(read_ended_lines(folder / _QUESTIONS))
    ]
    return Run(parts=parts, questions=questions, answers=_read_answers(folder))


def _parts_of(run: RunFile, folder: Path) -> dict[str, Any]:
    if run.get("version") != _VERSION:
        raise InvalidRequestError(
            f"{folder} is a run of version {shown(run.get('version'))}, this is {_VERSION}; "
            "answer into a new folder"
        )
    return dict(run[_PARTS])


def _read_answers(folder: Path) -> list[Answer]:
    answers: dict[tuple[str, Arm], Answer] = {}
    for where, line in read_ended_lines(folder / _ANSWERS):
        try:
            reply = Reply(
                text=line["reply"],
                is_refused=line["is_refused"],
                finish_reason=line["finish_reason"],
                usage=line["usage"] and Usage(**line["usage"]),
                retries=tuple(line["retries"]),
            )
            frames = tuple(line["frame_indices"])
            answer = Answer(key=line["key"], arm=line["arm"], reply=reply, frame_indices=frames)
        except (KeyError, TypeError) as error:
            raise InvalidRequestError(f"{where}: not an answer of a run") from error
        if answers.setdefault((answer.key, answer.arm), answer) is not answer:
            raise InvalidRequestError(
                f"{where}: question {shown(answer.key)} is answered twice from {answer.arm} "
                "frames; remove one of the lines"
            )
    return list(answers.values())


def _has_kept(folder: Path) -> bool:
    files = (folder / name for name in (_ANSWERS, _SELECTIONS))
    return any(file.exists() and file.stat().st_size for file in files)


def _begin(storage: Storage, parts: Mapping[str, Any], questions: Sequence[Question]) -> None:
    fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    run = {"version": _VERSION, "fingerprint": fingerprint, _PARTS: parts}
    storage.write(RUN_NAME, json.dumps(run, indent=2).encode() + b"\n")
    lines = [{name: getattr(question, name) for name in _QUESTION_FIELDS} for question in questions]
    storage.write(_QUESTIONS, b"".join(json.dumps(line).encode() + b"\n" for line in lines))

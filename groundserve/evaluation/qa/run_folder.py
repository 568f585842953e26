"""A folder that keeps every answer of a run, so that none is asked for twice."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.evaluation.line_file import append_lines, open_lines
from groundserve.evaluation.qa.question import Question
from groundserve.evaluation.qa.replies import is_right
from groundserve.evaluation.qa.run_files import (
    ANSWERS,
    QUESTIONS,
    RUN,
    SELECTIONS,
    VERSION,
    Answer,
    read_answers,
    read_parts,
    read_selections,
)
from groundserve.runtime.closing import Closing
from groundserve.strict_json import shown

_PARTIAL = ".partial"


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

        Raises:
            InvalidRequestError: The folder is another run's, and the message says what differs; or
                it holds something else.
            UnavailableError: Another process writes to it.
        """
        self._path = folder
        self._questions = {question.key: question for question in questions}
        if (folder / RUN).exists():
            read_parts(folder)
        else:
            _require_new(folder)
        self._lock = threading.Lock()
        with ExitStack() as files:
            self._answers = files.enter_context(open_lines(folder / ANSWERS))
            self._selections = files.enter_context(open_lines(folder / SELECTIONS))
            # Under the lock: another process may have begun a run here meanwhile. One that has kept
            # nothing, as of a model's name with a slip in it, binds nobody.
            if any((folder / name).stat().st_size for name in (ANSWERS, SELECTIONS)):
                _require_same(folder, parts)
            else:
                _begin(folder, parts, questions)
            self.answers = {(answer.key, answer.arm): answer for answer in read_answers(folder)}
            """By question and arm."""
            # By question the ordinals of the frames selected for it; and the identity of the
            # engine that selected them all, None where nothing was or records say them.
            self.selections, self.engine = read_selections(folder)
            self._files = files.pop_all()

    def add(self, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns. Any thread may call it."""
        reply = answer.reply
        line = {
            "key": answer.key,
            "arm": answer.arm,
            "reply": reply.text,
            "is_right": is_right(
                self._questions[answer.key], reply.text, is_refused=reply.is_refused
            ),
            "is_refused": reply.is_refused,
            "finish_reason": reply.finish_reason,
            "usage": asdict(reply.usage) if reply.usage else None,
            "retries": reply.retries,
            "frame_indices": answer.frame_indices,
        }
        with self._lock:
            append_lines(self._answers, [line])
            self.answers[answer.key, answer.arm] = answer

    def add_selections(
        self, selections: Mapping[str, tuple[int, ...]], *, engine: Mapping[str, Any] | None
    ) -> None:
        """Keep what was selected, so that it need not be scored again.

        Args:
            selections: Ordinals by question.
            engine: Identity of what scored the frames; None where a file of records says them.

        Raises:
            GroundserveError: Another engine selected frames for this run before.
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


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what decides the answers."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _require_new(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # What a run that was killed as it began leaves is no reason to refuse.
    left = {QUESTIONS, QUESTIONS + _PARTIAL, RUN, RUN + _PARTIAL}
    for path in folder.iterdir():
        is_empty = path.name in (ANSWERS, SELECTIONS) and not path.stat().st_size
        if path.name not in left and not is_empty:
            raise InvalidRequestError(
                f"{folder} is not empty and holds no run.json; name a new folder, or that of a run"
            )


def _begin(folder: Path, parts: Mapping[str, Any], questions: Sequence[Question]) -> None:
    lines = [
        {
            "key": question.key,
            "video": question.video,
            "group": question.group,
            "answer": question.answer,
            "num_choices": question.num_choices,
            "spans": question.spans,
        }
        for question in questions
    ]
    _write(folder / QUESTIONS, "".join(json.dumps(line) + "\n" for line in lines))
    run = {"version": VERSION, "fingerprint": fingerprint(parts), "parts": parts}
    # Last: a folder without it is no run.
    _write(folder / RUN, json.dumps(run, indent=2) + "\n")


def _require_same(folder: Path, parts: Mapping[str, Any]) -> None:
    there = read_parts(folder)
    # As JSON gives it back: a tuple is a list.
    here = json.loads(json.dumps(parts))
    if fingerprint(there) == fingerprint(here):
        return
    names = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
    said = "; ".join(
        f"{name} was {shown(there.get(name))}, is {shown(here.get(name))}" for name in names
    )
    raise InvalidRequestError(f"{folder} is another run's: {said}; name another folder")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + _PARTIAL)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)

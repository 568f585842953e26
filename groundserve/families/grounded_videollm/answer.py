"""The times in Grounded-VideoLLM's answers: two tokens for a stretch of the video."""

from __future__ import annotations

import re

from groundserve.answers import Moment
from groundserve.families.grounded_videollm.times import find_times
from groundserve.families.plans import SeenVideo
from groundserve.options import Task

_FROM = re.compile(r"\bfrom\s*$", re.IGNORECASE)  # what leads to the next stretch
_BEFORE_WORDS = " \t\r\n,;:.-"
_BEHIND_WORDS = " \t\r\n,;"


def parse_answer(text: str, task: Task, seen: SeenVideo) -> tuple[Moment, ...] | None:
    """Read the times of an answer, which the reference leaves to the reader.

    Of "moment" and "captions" every two times are a stretch, a last one alone is none; the words of
    a caption are those behind its stretch, up to the next. Others have no times.
    """
    if task not in ("moment", "captions"):
        return ()
    assert seen.time_range_seconds is not None, "the plan of this family always has one"
    times = list(find_times(text, seen.time_range_seconds[1]))
    pairs = list(zip(times[::2], times[1::2], strict=False))
    words_end = [first.start for first, _ in pairs[1:]] + [len(text)]
    return (
        tuple(
            Moment(
                start_seconds=first.seconds,
                end_seconds=last.seconds,
                text=_caption(text[last.end : end]) if task == "captions" else "",
            )
            for (first, last), end in zip(pairs, words_end, strict=False)
        )
        or None
    )


def _caption(words: str) -> str:
    if leading := _FROM.search(words):
        words = words[: leading.start()].rstrip()
    return words.lstrip(_BEFORE_WORDS).rstrip(_BEHIND_WORDS)

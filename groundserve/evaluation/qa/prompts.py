"""What is asked: the texts of the reference's tasks, to the character, for selector and answerer.

Source: NVlabs/VideoITG fab8b54, `lmms_eval/tasks/videomme/utils.py::videomme_doc_to_text`,
`lmms_eval/tasks/mlvu/utils.py::mlvu_doc_to_text`,
`lmms_eval/tasks/longvideobench/utils.py::longvideobench_doc_to_text` and
`lmms_eval/tasks/cgbench/utils.py::cgbench_doc_to_text_subtitle`, with the default arguments of the
tasks videomme, mlvu, longvideobench_val_v and cgbench_subtitles.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from groundserve.evaluation.qa.question import Question

NO_SUBTITLES = "No subtitles available"
_NUM_SUBTITLE_FRAMES = 32
"""Uniform frames whose subtitles CG-Bench's prompt has, however many frames are shown."""
_SELECT = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter"
)

Subtitle = tuple[float, float, str]
"""Start and end in seconds, and the text."""


def make_prompt(question: Question, *, subtitles: str = NO_SUBTITLES) -> str:
    """Return what both the selector and the Video-LLM are asked."""
    lines = (question.text, *question.options)
    match question.layout:
        case "videomme":
            return "\n".join(
                (
                    f"{_SELECT} (A, B, C, or D) of the correct option.",
                    *lines,
                    "Please respond with only the letter of the correct answer.",
                )
            )
        case "mlvu":
            return f"\n{question.text}\nOnly give the best option.\n\nBest option: ("
        case "longvideobench":
            last = "Answer with the option's letter from the given choices directly.\n"
            return "\n".join((*lines, last))
        case "cgbench":
            return "\n".join(
                (
                    "This video's subtitles are listed below: ",
                    subtitles,
                    f"{_SELECT} of the correct option.",
                    *lines,
                    "The best answer is:",
                )
            )


def shown_subtitles(path: Path, *, num_source_frames: int, fps: float) -> str:
    """Return the subtitles of CG-Bench's prompt: those shown during one of 32 uniform frames.

    Returns:
        Their texts, a line each; `NO_SUBTITLES` where the file is missing or cannot be parsed, as
        the reference has it.
    """
    try:
        subtitles = _parse_srt(path.read_text("utf-8"))
    except (OSError, ValueError, IndexError):
        return NO_SUBTITLES
    frames = np.linspace(0, num_source_frames - 1, _NUM_SUBTITLE_FRAMES, dtype=int).tolist()
    shown = [
        place
        for frame in frames
        for place, (start, end, _) in enumerate(subtitles)
        if int(start * fps) <= frame < int(end * fps)
    ]
    # The order of a set, as there: CPython's of small whole numbers, which mostly increases.
    return "\n".join(subtitles[place][2] for place in list(set(shown)))


def _parse_srt(text: str) -> Sequence[Subtitle]:
    by_time: dict[tuple[float, float], str] = {}
    for section in text.split("\n\n"):
        lines = section.split("\n")
        if section.strip() and len(lines) >= 3:
            times = lines[1].split(" --> ")
            # Of two with the same times the later text stays, in the earlier one's place.
            by_time[_seconds(times[0]), _seconds(times[1])] = " ".join(lines[2:])
    return [(start, end, text) for (start, end), text in by_time.items()]


def _seconds(text: str) -> float:
    hours, minutes, rest = text.split(":")
    seconds, milliseconds = rest.split(",")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(milliseconds) / 1000

"""Questions about MovingDigits that one moment answers, and events in words and times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.digits.dataset import draw_video, item_streams
from train.digits.handwritten import Split
from train.digits.questions import QuestionType, ask, tell_event
from train.digits.render import write_video
from train.digits.world import Event, World

Window = tuple[float, float]
"""Start and end in seconds."""

MOMENT_TYPES: tuple[QuestionType, ...] = ("semantic", "order", "motion", "semantic_motion")
"""Types of question that a moment answers."""

_TRIES = 6


@dataclass(frozen=True, kw_only=True)
class MomentQuestion:
    """A question, and the one moment that answers it."""

    type: QuestionType
    text: str
    window: Window


def ask_moment(world: World, rng: np.random.Generator, kind: QuestionType) -> MomentQuestion | None:
    """Ask for what happens once; None where some tries find nothing of the type that does."""
    for _ in range(_TRIES):
        question = ask(world, rng, kind)
        if question is None:
            return None
        first, last = question.seconds[0], question.seconds[-1]
        if last - first + 1 == len(question.seconds):  # seconds without a gap
            window = (float(first), float(last + 1))
            return MomentQuestion(type=kind, text=question.text, window=window)
    return None


def event_window(event: Event) -> Window:
    """Return when an event starts and ends, in seconds."""
    return float(event.first), float(event.last + 1)


def hundredths(window: Window, duration_seconds: float) -> tuple[int, int]:
    """Return a moment's first and last hundredth of a video.

    Source: huangb23/VTimeLLM c34ae56, the times of its training data: min(round(100 t / d), 99).
    """
    first, last = (min(round(100 * time / duration_seconds), 99) for time in window)
    return first, last


def event_words(event: Event) -> str:
    """Return an event as a caption without an end: "a seven moves left"."""
    return tell_event(event).removesuffix(".")


@dataclass(frozen=True, kw_only=True)
class MomentVideo:
    """A drawn video and its questions."""

    path: Path
    world: World
    questions: tuple[MomentQuestion, ...]
    """One of each type that the video allows; at least one."""

    @property
    def duration_seconds(self) -> float:
        """How long it is."""
        return float(self.world.num_seconds)


def write_moment_videos(
    out: Path, *, split: Split, seed: int, num_videos: int, num_seconds: int = 48
) -> list[MomentVideo]:
    """Write videos of which each type of question can be asked, as far as some tries find them."""
    videos = []
    for number, rng in item_streams("moments", split, seed, num_videos, num_seconds):
        world, _ = draw_video(rng, split=split, num_frames=num_seconds)
        questions = tuple(one for kind in MOMENT_TYPES if (one := ask_moment(world, rng, kind)))
        if not questions:
            continue
        path = out / f"{number:05d}.mp4"
        write_video(world, path)
        videos.append(MomentVideo(path=path, world=world, questions=questions))
    return videos


def training_windows(*, num_videos: int = 300, num_seconds: int = 48) -> list[Window]:
    """Return the moments that questions about videos of the training split ask for."""
    windows = []
    for _, rng in item_streams("moments", "train", 0, num_videos, num_seconds):
        world, _ = draw_video(rng, split="train", num_frames=num_seconds)
        asked = (ask_moment(world, rng, kind) for kind in MOMENT_TYPES)
        windows += [one.window for one in asked if one is not None]
    return windows

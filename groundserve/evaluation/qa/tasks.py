"""What there is to ask: each question from the frames of each arm, a video at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundserve.errors import DeadlineExceededError, InvalidRequestError, UnavailableError
from groundserve.evaluation.qa.arms import Arm, arms_of, oracle_frames, uniform_frames
from groundserve.evaluation.qa.prompts import NO_SUBTITLES, make_prompt, shown_subtitles
from groundserve.evaluation.qa.question import Question
from groundserve.evaluation.qa.run_folder import RunFolder
from groundserve.evaluation.qa.selections import Selector
from groundserve.frames import as_jpeg, data_url, iterate_frames
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoIndex, VideoSource
from groundserve.runtime.deadline import Deadline

_MAX_UNAVAILABLE_IN_A_ROW = 3


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How frames are sent."""

    longest_side: int | None = 768
    """Pixels that the longer side is shrunk to; None: as the video has it."""
    quality: int = 90
    """JPEG's, 1 to 95."""

    def __post_init__(self) -> None:
        if self.longest_side is not None and self.longest_side < 1:
            raise InvalidRequestError(f"longest_side must be >= 1, got {self.longest_side}")
        if not 1 <= self.quality <= 95:
            raise InvalidRequestError(f"quality must be 1 to 95, got {self.quality}")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is asked, and from which frames."""

    questions: Sequence[Question]
    videos: Mapping[str, Path]
    """File of each video that a question names."""
    arms: Sequence[Arm]
    """Each once."""
    num_frames: int
    """K, the most frames that are shown."""
    pictures: PictureOptions
    selector: Selector | None
    """None where nothing is to be selected that the folder does not know."""
    subtitles: Path | None = None
    """Folder of `VIDEO.srt` files, for CG-Bench's prompt."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A question to ask from the frames of one arm."""

    question: Question
    arm: Arm
    frame_indices: tuple[int, ...]
    """Ordinals, increasing."""
    content: list[dict[str, Any]]
    """The message's parts: pictures, then the prompt."""


def open_tasks(
    setup: Setup,
    run: RunFolder,
    *,
    on_video: Callable[[int, int], None],
    on_failure: Callable[[str, str, int], None],
) -> Generator[Task, None, None]:
    """Yield what has no answer yet, video by video.

    The run takes selections that are made now. `on_video` is called with the number of a video,
    from 1, and how many there are; `on_failure`, where a video, or a question about it, cannot be
    read or scored, with "video", what is wrong, and how many answers that leaves out.
    """
    by_video: dict[str, list[tuple[Question, Arm]]] = {}
    for question in setup.questions:
        left = by_video.setdefault(question.video, [])
        left += [
            (question, arm)
            for arm in arms_of(question, setup.arms)
            if (question.key, arm) not in run.answers
        ]
    num_unavailable = 0
    with MediaWorkers(limits=Limits()) as workers:
        for number, (name, left) in enumerate(by_video.items(), start=1):
            if not left:
                continue
            on_video(number, len(by_video))
            try:
                tasks = _tasks_of_video(setup, run, workers, setup.videos[name], left)
            # What is wrong with one video, or with a question about it, is not wrong with others.
            except (InvalidRequestError, DeadlineExceededError, UnavailableError) as error:
                on_failure("video", f"{name}: {error}", len(left))
                # One video may end the process that reads it; with several it is not the videos.
                num_unavailable = num_unavailable + 1 if isinstance(error, UnavailableError) else 0
                if num_unavailable == _MAX_UNAVAILABLE_IN_A_ROW:
                    raise
            else:
                num_unavailable = 0
                yield from tasks


def _tasks_of_video(
    setup: Setup,
    run: RunFolder,
    workers: MediaWorkers,
    path: Path,
    left: Sequence[tuple[Question, Arm]],
) -> list[Task]:
    index = _read_index(workers, path)
    prompts = {question.key: _prompt(question, setup, index) for question, _ in left}
    if "selected" in setup.arms:
        missing = {key: text for key, text in prompts.items() if key not in run.selections}
        if missing:
            assert setup.selector is not None
            selection = setup.selector.select(path, missing)
            run.add_selections(selection.frame_indices, engine=selection.engine)
    frames = [_frames(arm, question, setup, run, index) for question, arm in left]
    # Every frame that any question shows is decoded, and encoded, once.
    pictures = _read_pictures(path, {it for shown in frames for it in shown}, setup.pictures)
    return [
        Task(
            question=question,
            arm=arm,
            frame_indices=shown,
            content=[
                *({"type": "image_url", "image_url": {"url": pictures[it]}} for it in shown),
                {"type": "text", "text": prompts[question.key]},
            ],
        )
        for (question, arm), shown in zip(left, frames, strict=True)
    ]


def _read_index(workers: MediaWorkers, path: Path) -> VideoIndex:
    limits = Limits()
    with (
        VideoSource.from_path(path, limits=limits) as source,
        workers.open(source, deadline=Deadline.after(limits.max_request_seconds)) as video,
    ):
        return video.index


def _read_pictures(
    path: Path, frame_indices: Iterable[int], options: PictureOptions
) -> dict[int, str]:
    ordinals = sorted(frame_indices)
    if not ordinals:
        return {}
    limits = Limits()
    # The ceiling is that of one request; these are the frames of many questions.
    deadline = Deadline.after(limits.max_request_seconds * len(ordinals))
    frames = iterate_frames(
        path, ordinals, longest_side=options.longest_side, limits=limits, deadline=deadline
    )
    with closing(frames):
        return {
            ordinal: data_url(as_jpeg(frame, quality=options.quality))
            for ordinal, frame in zip(ordinals, frames, strict=True)
        }


def _prompt(question: Question, setup: Setup, index: VideoIndex) -> str:
    if setup.subtitles is None:
        return make_prompt(question, subtitles=NO_SUBTITLES)
    path = setup.subtitles / f"{question.video}.srt"
    subtitles = shown_subtitles(
        path, num_source_frames=index.num_source_frames, fps=index.average_fps
    )
    return make_prompt(question, subtitles=subtitles)


def _frames(
    arm: Arm, question: Question, setup: Setup, run: RunFolder, index: VideoIndex
) -> tuple[int, ...]:
    if arm == "none":
        return ()
    num_shown = min(setup.num_frames, index.num_source_frames)
    if "selected" in setup.arms:
        selected = run.selections[question.key]
        if selected[-1] >= index.num_source_frames:
            raise InvalidRequestError(
                f"frame {selected[-1]} is selected, and the video has "
                f"{index.num_source_frames} frames"
            )
        # A short video gives fewer frames to select from than it has.
        num_shown = min(num_shown, len(selected))
        if arm == "selected":
            return selected
    if arm == "oracle":
        return tuple(oracle_frames(index.pts_seconds, question.spans, num_shown).tolist())
    return tuple(uniform_frames(index.num_source_frames, num_shown).tolist())

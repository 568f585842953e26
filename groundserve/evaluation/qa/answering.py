"""Asking every question that has no answer yet, a video at a time and several at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.evaluation.qa.arms import Arm, arms_of, oracle_frames, uniform_frames
from groundserve.evaluation.qa.endpoint import Endpoint, QuestionFailedError
from groundserve.evaluation.qa.pictures import PictureOptions, read_index, read_pictures
from groundserve.evaluation.qa.prompts import NO_SUBTITLES, make_prompt, shown_subtitles
from groundserve.evaluation.qa.question import Question
from groundserve.evaluation.qa.run_files import Answer
from groundserve.evaluation.qa.run_folder import RunFolder
from groundserve.evaluation.qa.selections import Selector
from groundserve.evaluation.qa.spending import Budget
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoIndex

MAX_FAILURES_IN_A_ROW = 20
"""After so many questions that failed, one after another, the endpoint counts as gone. A question
that it rejects counts while it has answered none."""


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


@dataclass
class Outcome:
    """What was left without an answer."""

    failures: Counter[str] = field(default_factory=Counter)
    """Questions by what went wrong: a kind of `QuestionFailedError`, or "video"."""
    first_messages: dict[str, str] = field(default_factory=dict)
    """Of each kind the first failure's."""
    is_budget_spent: bool = False

    def add(self, kind: str, message: str, count: int = 1) -> None:
        """Count failures of a kind."""
        self.failures[kind] += count
        self.first_messages.setdefault(kind, message)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A question to ask from the frames of one arm."""

    question: Question
    arm: Arm
    frame_indices: tuple[int, ...]
    content: list[dict[str, Any]]


def answer_questions(
    setup: Setup,
    *,
    endpoint: Endpoint,
    run: RunFolder,
    num_threads: int,
    budget: Budget,
    on_video: Callable[[int, int], None],
) -> Outcome:
    """Ask what has no answer yet; answers go to the folder as they come.

    Args:
        setup: What to ask.
        endpoint: Whom.
        run: Where answers are kept.
        num_threads: Questions that are asked at one time, >= 1.
        budget: When to stop. What is being asked then is still answered.
        on_video: Called with the number of a video, from 1, and how many there are.

    Raises:
        UnavailableError: `MAX_FAILURES_IN_A_ROW` questions failed.
        GroundserveError: As `Endpoint.ask`, but for single questions; or as `Scorer.score`, but
            for single videos.
    """
    outcome = Outcome()
    asked = _Asked(endpoint, run, outcome)
    for answer in run.answers.values():
        budget.spend(answer.reply.usage)
    pool = ThreadPoolExecutor(num_threads)
    try:
        with closing(_tasks(setup, run, outcome, on_video)) as tasks:
            for task in tasks:
                if len(asked.pending) >= num_threads:
                    asked.take(budget, is_all=False)
                if budget.is_spent:
                    outcome.is_budget_spent = True
                    break
                asked.pending.add(pool.submit(asked.ask, task))
        asked.take(budget, is_all=True)
    except BaseException:
        # Nobody waits for the rest any more: not for replies, nor for waits between tries.
        endpoint.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return outcome


class _Asked:
    """What is being asked, and what became of it."""

    def __init__(self, endpoint: Endpoint, run: RunFolder, outcome: Outcome) -> None:
        self._endpoint = endpoint
        self._run = run
        self._outcome = outcome
        self._num_failed_in_a_row = 0
        self.pending: set[Future[Answer]] = set()

    def ask(self, task: _Task) -> Answer:
        """In a thread: what was paid for is kept before anything else happens."""
        answer = Answer(
            key=task.question.key,
            arm=task.arm,
            reply=self._endpoint.ask(task.content),
            frame_indices=task.frame_indices,
        )
        self._run.add(answer)
        return answer

    def take(self, budget: Budget, *, is_all: bool) -> None:
        """Wait until one of them is done, or all, and count."""
        while self.pending:
            done, _ = wait(self.pending, return_when=FIRST_COMPLETED)
            for future in done:
                self.pending.remove(future)
                try:
                    answer = future.result()
                except QuestionFailedError as error:
                    self._fail(error)
                else:
                    self._num_failed_in_a_row = 0
                    budget.spend(answer.reply.usage)
            if not is_all:
                return

    def _fail(self, error: QuestionFailedError) -> None:
        self._outcome.add(error.kind, str(error))
        # Twenty questions about one long video may be too large; where others were answered, the
        # endpoint is there and the rest is worth asking.
        if error.kind == "rejected" and self._run.answers:
            return
        self._num_failed_in_a_row += 1
        if self._num_failed_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise UnavailableError(
                f"{self._num_failed_in_a_row} questions failed one after another, the last: "
                f"{error}; the same command goes on where this one stopped"
            ) from error


def _tasks(
    setup: Setup, run: RunFolder, outcome: Outcome, on_video: Callable[[int, int], None]
) -> Generator[_Task, None, None]:
    by_video: dict[str, list[Question]] = {}
    for question in setup.questions:
        by_video.setdefault(question.video, []).append(question)
    with MediaWorkers(limits=Limits()) as workers:
        for number, (name, questions) in enumerate(by_video.items(), start=1):
            open_arms: dict[str, list[Arm]] = {question.key: [] for question in questions}
            for question in questions:
                for arm in arms_of(question, setup.arms):
                    if (question.key, arm) not in run.answers:
                        open_arms[question.key].append(arm)
            left = [question for question in questions if open_arms[question.key]]
            if not left:
                continue
            on_video(number, len(by_video))
            try:
                tasks = _tasks_of_video(setup, run, workers, setup.videos[name], left, open_arms)
            # What is wrong with one video, or with a question about it, is not wrong with others.
            except InvalidRequestError as error:
                outcome.add("video", f"{name}: {error}", sum(map(len, open_arms.values())))
                continue
            yield from tasks


def _tasks_of_video(
    setup: Setup,
    run: RunFolder,
    workers: MediaWorkers,
    path: Path,
    questions: Sequence[Question],
    open_arms: Mapping[str, Sequence[Arm]],
) -> list[_Task]:
    index = read_index(workers, path)
    prompts = {question.key: _prompt(question, setup, index) for question in questions}
    if "selected" in setup.arms:
        missing = {key: text for key, text in prompts.items() if key not in run.selections}
        if missing:
            assert setup.selector is not None
            selection = setup.selector.select(path, missing)
            run.add_selections(selection.frame_indices, engine=selection.engine)
    frames = {
        (question.key, arm): _frames(arm, question, setup, run, index)
        for question in questions
        for arm in open_arms[question.key]
    }
    # Every frame that any question shows is decoded, and encoded, once.
    shown = (ordinal for ordinals in frames.values() for ordinal in ordinals)
    pictures = read_pictures(path, shown, setup.pictures)
    return [
        _Task(
            question=question,
            arm=arm,
            frame_indices=frames[question.key, arm],
            content=[
                *(
                    {"type": "image_url", "image_url": {"url": pictures[ordinal]}}
                    for ordinal in frames[question.key, arm]
                ),
                {"type": "text", "text": prompts[question.key]},
            ],
        )
        for question in questions
        for arm in open_arms[question.key]
    ]


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

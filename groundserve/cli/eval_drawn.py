"""`groundserve eval moments` without files: a model is asked about videos that are drawn for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from groundserve.answers import Answer
from groundserve.cli._output import plain_table, print_json, progress, stdout
from groundserve.cli.eval_asked import AskedModel
from groundserve.cli.eval_tables import shown
from groundserve.cli.result_output import print_engine_note
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.bootstrap import require_seed
from groundserve.evaluation.drawn_moments import (
    IOU_THRESHOLDS,
    AskedMoment,
    DrawnMomentsReport,
    make_drawn_report,
)
from groundserve.evaluation.spans import Window
from groundserve.options import AnswerOptions
from groundserve.runtime.own_packages import require_own
from groundserve.scorer import Answerer
from groundserve.scoring.opener import open_answerer

if TYPE_CHECKING:
    from train.digits.moments import MomentVideo


def ask_drawn(model: AskedModel, *, num_videos: int, seed: int, as_json: bool) -> None:
    """Draw videos, ask a model about them, and print how well it tells their moments."""
    require_seed(seed)
    if num_videos < 2:
        raise InvalidRequestError(
            f"num_videos must be >= 2, since each video's questions are asked of another one too, "
            f"got {num_videos}"
        )
    require_own("train")
    options = model.open_options("moment")
    with (
        progress(f"drawing {num_videos} videos") as step,
        TemporaryDirectory(prefix="groundserve-eval-") as scratch,
    ):
        from train.digits.moments import training_windows, write_moment_videos

        videos = write_moment_videos(Path(scratch), split="test", seed=seed, num_videos=num_videos)
        step("loading")
        with open_answerer(**options) as answerer:
            asked = _ask(answerer, videos, max_new_tokens=model.max_new_tokens, step=step)
        step("estimating intervals")
        report = make_drawn_report(asked, training_windows(), seed=seed)
    if as_json:
        print_json({"seed": seed, "num_videos": num_videos, **report.as_dict()})
    else:
        _print_tables(report)


def _ask(
    answerer: Answerer,
    videos: Sequence[MomentVideo],
    *,
    max_new_tokens: int,
    step: Callable[[str], None],
) -> list[AskedMoment]:
    """Ask of each video its own questions and those of the video before it."""
    options = AnswerOptions(task="moment", max_new_tokens=max_new_tokens)
    answers: list[Sequence[Answer]] = []
    for place, video in enumerate(videos):
        step(f"asking about video {place + 1} of {len(videos)}")
        others = videos[place - 1]
        queries = [one.text for one in (*video.questions, *others.questions)]
        result = answerer.ask(video.path, queries, options)
        if place == 0:
            print_engine_note(result)
        answers.append(result.answers)
    asked = []
    for place, video in enumerate(videos):
        following = (place + 1) % len(videos)
        # Behind the following video's own questions stand those of this one.
        elsewhere = answers[following][len(videos[following].questions) :]
        strange = answers[place][len(video.questions) :]
        for number, question in enumerate(video.questions):
            asked.append(
                AskedMoment(
                    video=video.path.name,
                    type=question.type,
                    duration_seconds=video.duration_seconds,
                    window=question.window,
                    told=_window(answers[place][number]),
                    of_other_video=_window(elsewhere[number]),
                    # As hard as its own where it is of the same type.
                    of_other_question=_window(strange[number % len(strange)]),
                )
            )
    return asked


def _window(answer: Answer) -> Window | None:
    if not answer.moments:
        return None
    first = answer.moments[0]
    return first.start_seconds, first.end_seconds


def _print_tables(report: DrawnMomentsReport) -> None:
    table = plain_table("", "n", *(f"R1@{at}" for at in IOU_THRESHOLDS), "mIoU")
    for name, figures in report.estimates.items():
        counts = str(next(iter(figures.values())).num_questions)
        table.add_row(name, counts, *(shown(one, ends=True) for one in figures.values()))
    stdout.print(table)

"""What `eval moments`, `captions` and `highlights` share: who answers, or has answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints

import typer

from groundserve.cli._checks import check_outputs, parse_parts
from groundserve.cli._options import DeviceName, FamilyName, MaxNewTokens, PartValues
from groundserve.cli._output import print_note
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.evaluation.activitynet.annotations import (
    Annotation,
    find_videos,
    read_annotations,
)
from groundserve.evaluation.activitynet.answer_log import read_answers
from groundserve.evaluation.activitynet.answers import TASKS, Answers, LogTask
from groundserve.evaluation.activitynet.asking import ask_annotated, find_answered
from groundserve.evaluation.activitynet.protocols import PROTOCOLS
from groundserve.options import Task
from groundserve.scorer import Answerer
from groundserve.scoring.opener import check_answerer, open_answerer

ProtocolName: TypeAlias = Annotated[
    str,
    typer.Option("--protocol", help=f"Whose definitions of the figures: {', '.join(PROTOCOLS)}."),
]
DEFAULT_PROTOCOL = "vtimellm"


@dataclass(frozen=True, kw_only=True)
class AskedModel:
    """The model that is asked what a file does not answer, and the options that name it."""

    media_root: Annotated[
        Path | None, typer.Option(help="Folder of the annotated videos, for a model to be asked.")
    ] = None
    checkpoint: Annotated[
        str | None, typer.Option(help="Ask with PyTorch: directory of a checkpoint.")
    ] = None
    family: FamilyName = None
    part: PartValues = None
    engines: Annotated[
        Path | None, typer.Option(help="Ask in this process with an engine directory.")
    ] = None
    server: Annotated[str | None, typer.Option(help="Ask a running server: grpc://HOST:PORT.")] = (
        None
    )
    device: DeviceName = None
    max_new_tokens: MaxNewTokens

    @property
    def name(self) -> str | None:
        """What its answers are kept under, as it was named with its parts; None where none is."""
        named = (self.checkpoint, self.engines, self.server)
        place = next((str(one) for one in named if one is not None), None)
        return None if place is None else " ".join([place, *(self.part or ())])

    def refuse(self, why: str) -> None:
        """Refuse a model and what goes with one, with these words behind the option's name."""
        for field in fields(self):
            if field.name != "max_new_tokens" and getattr(self, field.name):
                raise InvalidRequestError(f"--{field.name.replace('_', '-')} {why}")

    def refuse_without_name(self) -> None:
        """Refuse what goes with a model, where none is named."""
        self.refuse("goes with --checkpoint, --engines or --server: a model to be asked")

    def check(self, task: Task) -> Path:
        """Refuse what `open` could not open, before any work; returns the folder of videos.

        Raises:
            InvalidRequestError: As `check_answerer`, or there is no folder of videos.
            UnsupportedError: The family has no such task; a server says so itself.
        """
        if self.media_root is None:
            raise InvalidRequestError(
                "a model needs --media-root: the folder of the annotated videos"
            )
        family = check_answerer(**self._options)
        if family is not None and task not in family.tasks:
            raise UnsupportedError(
                f"{family.name} has the tasks {', '.join(family.tasks)}, and not {task}"
            )
        return self.media_root

    def open(self) -> Answerer:
        """Load it, or connect to it. To be used as a context."""
        return open_answerer(**self._options)

    @property
    def _options(self) -> dict[str, Any]:
        names = ("checkpoint", "engines", "server", "family", "device")
        parts = parse_parts(self.part or (), checkpoint=self.checkpoint)
        return {name: getattr(self, name) for name in names} | {"parts": parts}


def asks_model(*, max_new_tokens: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `AskedModel` in the place of its parameter `model`."""
    defaults = {"max_new_tokens": max_new_tokens}
    hints = get_type_hints(AskedModel, include_extras=True)
    options = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=defaults.get(field.name, field.default),
            annotation=hints[field.name],
        )
        for field in fields(AskedModel)
    ]

    def give(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(**given: Any) -> None:
            model = AskedModel(**{option.name: given.pop(option.name) for option in options})
            command(**given, model=model)

        parameters: list[Parameter] = []
        for parameter in signature(command, eval_str=True).parameters.values():
            own = parameter.replace(kind=Parameter.KEYWORD_ONLY)
            parameters += options if parameter.name == "model" else [own]
        # What typer reads the options from.
        with_options.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return with_options

    return give


def collect_answers(
    annotations: Path,
    answers: Path,
    model: AskedModel,
    *,
    task: LogTask,
    step: Callable[[str], None],
) -> tuple[Answers, dict[str, Annotation]]:
    """Read the annotations, ask the model where one is named, and read all answers.

    Raises:
        InvalidRequestError: A file is malformed, or options do not go together.
        GroundserveError: As `ask_annotated`.
    """
    known = read_annotations(annotations)
    if model.name is None:
        model.refuse_without_name()
    else:
        _ask(known, answers, model, model.name, task=task, step=step)
    return read_answers(answers, known, task=task), known


def find_asked_videos(annotated: Collection[str], media_root: Path) -> dict[str, Path]:
    """Return the file of each annotated video that is there; says how many are not."""
    videos = find_videos(annotated, media_root)
    if len(videos) < len(annotated):
        print_note(
            f"{len(annotated) - len(videos)} of {len(annotated)} annotated videos are not in "
            f"{media_root}: left out"
        )
    return videos


def _ask(
    annotations: Mapping[str, Annotation],
    path: Path,
    model: AskedModel,
    name: str,
    *,
    task: LogTask,
    step: Callable[[str], None],
) -> None:
    check_outputs({"--answers": path})
    media_root = model.check(TASKS[task])
    find_answered(path, model=name)
    videos = find_asked_videos(annotations, media_root)
    step("loading")
    with model.open() as answerer:
        ask_annotated(
            answerer,
            annotations,
            videos,
            path,
            task=task,
            model=name,
            max_new_tokens=model.max_new_tokens,
            on_video=lambda number, total: step(f"asking about video {number} of {total}"),
        )

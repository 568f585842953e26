"""The model that `eval moments`, `captions` and `highlights` ask; a class as a set of options."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from groundserve.cli._checks import check_outputs, parse_parts
from groundserve.cli._options import DeviceName, FamilyName, MaxNewTokens, PartValues
from groundserve.cli._output import print_note
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.evaluation.activitynet.annotations import find_videos
from groundserve.evaluation.asking import find_answered
from groundserve.options import Task
from groundserve.scoring.opener import check_answerer, open_answerer

_Options = TypeVar("_Options")


def takes(
    options: type[Any], **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of a dataclass as options, in the place of its parameter `given`.

    Args:
        options: The dataclass, each field annotated as typer has it.
        defaults: Of fields for this command.
    """
    hints = get_type_hints(options, include_extras=True)
    own = []
    for field in fields(options):
        default = defaults.get(field.name, field.default)
        if default is MISSING:
            make = field.default_factory
            default = make() if callable(make) else ...
        empty = Parameter.empty if default is ... else default
        own.append(
            Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=empty, annotation=hints[field.name]
            )
        )

    def give(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(**values: Any) -> None:
            given = options(**{option.name: values.pop(option.name) for option in own})
            command(**values, given=given)

        parameters: list[Parameter] = []
        for parameter in signature(command, eval_str=True).parameters.values():
            one = parameter.replace(kind=Parameter.KEYWORD_ONLY)
            parameters += own if parameter.name == "given" else [one]
        # What typer reads the options from.
        with_options.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return with_options

    return give


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

    def ask(
        self,
        path: Path,
        annotated: Collection[str],
        *,
        task: Task,
        question_of: Callable[[Mapping[str, Any]], Any],
        ask: Callable[..., None],
        step: Callable[[str], None],
    ) -> None:
        """Ask what a file does not answer, and add it; nothing where no model is named.

        Args:
            path: The file.
            annotated: Names of the videos.
            task: What is asked.
            question_of: See `find_answered`.
            ask: `ask_annotated` or `ask_highlights`, with the questions.
            step: Called with what is done next.

        Raises:
            InvalidRequestError: There is no folder of videos, or as `check_answerer`.
            UnsupportedError: The family has no such task; a server says so itself.
        """
        if self.name is None:
            self.refuse("goes with --checkpoint, --engines or --server: a model to be asked")
            return
        check_outputs({"--answers": path})
        if self.media_root is None:
            raise InvalidRequestError(
                "a model needs --media-root: the folder of the annotated videos"
            )
        names = ("checkpoint", "engines", "server", "family", "device")
        options = {name: getattr(self, name) for name in names}
        options["parts"] = parse_parts(self.part or (), checkpoint=self.checkpoint)
        family = check_answerer(**options)
        if family is not None and task not in family.tasks:
            raise UnsupportedError(
                f"{family.name} has the tasks {', '.join(family.tasks)}, and not {task}"
            )
        find_answered(path, question_of, model=self.name)
        videos = find_videos(annotated, self.media_root)
        if len(videos) < len(annotated):
            print_note(
                f"{len(annotated) - len(videos)} of {len(annotated)} annotated videos are not in "
                f"{self.media_root}: left out"
            )
        step("loading")
        with open_answerer(**options) as answerer:
            ask(
                answerer,
                videos=videos,
                path=path,
                model=self.name,
                max_new_tokens=self.max_new_tokens,
                on_video=lambda number, total: step(f"asking about video {number} of {total}"),
            )

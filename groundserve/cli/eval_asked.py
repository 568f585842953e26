"""The model that `eval moments`, `captions` and `highlights` ask, and the options that name it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from groundserve.cli._checks import check_outputs, parse_parts
from groundserve.cli._options import DeviceName, FamilyName, MaxNewTokens, PartValues, VllmPython
from groundserve.cli._output import print_note
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.evaluation.activitynet.annotations import find_videos
from groundserve.evaluation.asking import Asked, ask_left, find_answered
from groundserve.options import DEFAULT_NEW_TOKENS, Task
from groundserve.scoring.opener import check_answerer, open_answerer


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
    vllm_python: VllmPython = None
    server: Annotated[str | None, typer.Option(help="Ask a running server: grpc://HOST:PORT.")] = (
        None
    )
    device: DeviceName = None
    max_new_tokens: MaxNewTokens = DEFAULT_NEW_TOKENS

    @property
    def name(self) -> str | None:
        """What its answers are kept under, as it was named with its parts; None where none is."""
        named = (self.checkpoint, self.engines, self.server)
        place = next((str(one) for one in named if one is not None), None)
        return None if place is None else " ".join([place, *(self.part or ())])

    def open_options(self, task: Task) -> dict[str, Any]:
        """Return what `open_answerer` opens the model by, checked without loading it."""
        names = ("checkpoint", "engines", "server", "family", "device")
        options = {name: getattr(self, name) for name in names}
        options["parts"] = parse_parts(self.part or (), checkpoint=self.checkpoint)
        family = check_answerer(**options)
        if family is not None and task not in family.tasks:
            raise UnsupportedError(
                f"{family.name} has the tasks {', '.join(family.tasks)}, and not {task}"
            )
        return options

    def refuse(self, why: str) -> None:
        """Refuse a model and what goes with one, with these words behind the option's name."""
        for field in fields(self):
            if field.name != "max_new_tokens" and getattr(self, field.name):
                raise InvalidRequestError(f"--{field.name.replace('_', '-')} {why}")

    def ask(self, path: Path, asked: Asked[Any], *, step: Callable[[str], None]) -> None:
        """Ask what a file does not answer, and add it; nothing where no model is named."""
        if self.name is None:
            self.refuse("goes with --checkpoint, --engines or --server: a model to be asked")
            return
        check_outputs({"--answers": path})
        if self.media_root is None:
            raise InvalidRequestError(
                "a model needs --media-root: the folder of the annotated videos"
            )
        options = self.open_options(asked.task)
        find_answered(path, asked, model=self.name)
        videos = find_videos(asked.questions, self.media_root)
        num_videos = len(asked.questions)
        if len(videos) < num_videos:
            print_note(
                f"{num_videos - len(videos)} of {num_videos} annotated videos are not in "
                f"{self.media_root}: left out"
            )
        step("loading")
        with open_answerer(**options) as answerer:
            ask_left(
                answerer,
                asked,
                videos,
                path,
                model=self.name,
                max_new_tokens=self.max_new_tokens,
                on_video=lambda number, total: step(f"asking about video {number} of {total}"),
            )


@dataclass(frozen=True, kw_only=True)
class ReferenceModel(AskedModel):
    """The same, with answers as long as the references' evaluations allow."""

    max_new_tokens: MaxNewTokens = 1024

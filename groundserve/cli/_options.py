"""Options that several commands have, and dataclasses as groups of options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_args

import typer

from groundserve.fetching import FetchPolicy
from groundserve.options import Sampling, ScoreOptions, Seek, Selector, Task
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from python_backend.generate.vllm_process import PYTHON_VARIABLE

_Kind = TypeVar("_Kind")
_DEFAULTS = ScoreOptions()

Checkpoint: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Score with PyTorch: checkpoint directory, hub id, or digits."),
]
VisionTower: TypeAlias = Annotated[
    str | None, typer.Option(help="Directory or hub id of the vision tower for --checkpoint.")
]
FamilyName: TypeAlias = Annotated[
    str | None,
    typer.Option("--family", help="Model family of --checkpoint, where its files do not tell."),
]
PartValues: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--part",
        metavar="NAME=VALUE",
        help="A part of --checkpoint by hand, such as adapter=DIR; may be given several times, "
        "adapters in their order. docs/ask.md",
    ),
]
DeviceName: TypeAlias = Annotated[
    str | None, typer.Option(help="Where --checkpoint runs: cpu (in fp32) or cuda (in bf16).")
]
TaskName: TypeAlias = Annotated[
    str,
    typer.Option(
        "--task", help=f"What is asked, as far as a family has it: {', '.join(get_args(Task))}."
    ),
]
Raw: TypeAlias = Annotated[
    bool, typer.Option("--raw", help="Ask in your own words, without those of the task.")
]
ControlTokens: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--control-tokens",
        help="Read the model's control tokens where a query spells them, such as </s>: else they "
        "are text. So does --raw.",
    ),
]
ClipSeconds: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--clip-seconds",
        metavar="START:END",
        help="Part of the video to look at, in seconds, where a family can; an end past the "
        "video's means to its end.",
        show_default="all of it",
    ),
]
MaxNewTokens: TypeAlias = Annotated[
    int, typer.Option("--max-new-tokens", help="Most tokens of an answer.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Of the intervals.")]


def _name_vllm(python: Path | None) -> Path | None:
    """Tell all that starts vLLM below this process."""
    if python is not None:
        os.environ[PYTHON_VARIABLE] = str(python)
    return python


VllmPython: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--vllm-python",
        help="With the profile vllm: Python of the environment that has vLLM.",
        show_default="GROUNDSERVE_VLLM_PYTHON, or .venv-vllm beside this environment",
        callback=_name_vllm,
    ),
]


@dataclass(frozen=True, kw_only=True)
class FrameRules:
    """How frames are sampled and selected, and what makes a span."""

    sample_fps: Annotated[float, typer.Option(help="Frames per second to aim at.")] = (
        _DEFAULTS.sample_fps
    )
    sampling: Annotated[
        str, typer.Option(help=f"Sampling rule: {', '.join(get_args(Sampling))}.")
    ] = _DEFAULTS.sampling
    seek: Annotated[str, typer.Option(help=f"Frames to decode: {', '.join(get_args(Seek))}.")] = (
        _DEFAULTS.seek
    )
    top_k: Annotated[int, typer.Option(help="Frames to select.")] = _DEFAULTS.top_k
    selector: Annotated[
        str, typer.Option(help=f"How to select: {', '.join(get_args(Selector))}.")
    ] = _DEFAULTS.selector
    span_threshold: Annotated[float, typer.Option(help="Lowest score inside a span.")] = (
        DEFAULT_SPAN_THRESHOLD
    )
    span_gap_seconds: Annotated[float, typer.Option(help="Longest gap inside a span.")] = (
        DEFAULT_SPAN_GAP_SECONDS
    )

    def options(self, num_frames: int | None) -> ScoreOptions:
        """Return what is asked of whatever scores."""
        return made_of(vars(self), ScoreOptions, num_frames=num_frames)


@dataclass(frozen=True, kw_only=True)
class FetchRules:
    """Which URLs a command may fetch videos from."""

    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[http://]HOST[:PORT]",
            help="Host that a video may be fetched from by https, *.NAME for all below a name, "
            "'*' for any that is public; may be given several times.",
        ),
    ] = None
    allow_network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR",
            help="Addresses that such a host may have though they are not public.",
        ),
    ] = None

    def policy(self) -> FetchPolicy:
        """Return what they allow."""
        return FetchPolicy(
            hosts=tuple(self.allow_host or ()), networks=tuple(self.allow_network or ())
        )


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of each parameter that is a dataclass as options, in its place.

    The fields are annotated as typer has it; one that is a dataclass stands for its own fields.
    """
    own = signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def with_options(**values: Any) -> None:
        for parameter in own:
            if is_dataclass(parameter.annotation):
                values[parameter.name] = _take(parameter.annotation, values)
        command(**values)

    flat = signature(with_options).replace(parameters=list(_flat(own)))
    with_options.__signature__ = flat  # type: ignore[attr-defined]  # which typer reads
    return with_options


def made_of(options: Mapping[str, Any], kind: type[_Kind], **others: Any) -> _Kind:
    """Make a dataclass of the options that have the names of its fields, and of others."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: options[name] for name in names if name in options} | others)


def is_given(ctx: typer.Context, name: str) -> bool:
    """Tell whether the command line itself has an option."""
    source: Any = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flat(parameters: Iterable[Parameter]) -> Iterator[Parameter]:
    for parameter in parameters:
        if is_dataclass(parameter.annotation):
            group: Any = parameter.annotation
            yield from _flat(signature(group, eval_str=True).parameters.values())
        else:
            yield parameter.replace(kind=Parameter.KEYWORD_ONLY)


def _take(group: Any, values: dict[str, Any]) -> Any:
    """Make a group of its options' values, and take these away."""
    kinds = {it.name: it.annotation for it in signature(group, eval_str=True).parameters.values()}
    return group(
        **{
            name: _take(kind, values) if is_dataclass(kind) else values.pop(name)
            for name, kind in kinds.items()
        }
    )

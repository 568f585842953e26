"""Options that several commands have: what answers, how frames are sampled and selected, spans."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeAlias, get_args

import typer

from groundserve.options import Sampling, Seek, Selector, Task

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
SampleFps: TypeAlias = Annotated[float, typer.Option(help="Frames per second to aim at.")]
SamplingRule: TypeAlias = Annotated[
    str, typer.Option(help=f"Sampling rule: {', '.join(get_args(Sampling))}.")
]
SeekRule: TypeAlias = Annotated[
    str, typer.Option(help=f"Frames to decode: {', '.join(get_args(Seek))}.")
]
TopK: TypeAlias = Annotated[int, typer.Option(help="Frames to select.")]
SelectorName: TypeAlias = Annotated[
    str, typer.Option(help=f"How to select: {', '.join(get_args(Selector))}.")
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
SpanThreshold: TypeAlias = Annotated[float, typer.Option(help="Lowest score inside a span.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SpanGapSeconds: TypeAlias = Annotated[float, typer.Option(help="Longest gap inside a span.")]


def _name_vllm(python: Path | None) -> Path | None:
    """Tell all that starts vLLM below this process."""
    if python is not None:
        from python_backend.generate.vllm_process import PYTHON_VARIABLE

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

"""`groundserve train`: a stage, from a config file to a checkpoint; its check; its data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from groundserve import extras
from groundserve.cli._checks import check_input
from groundserve.cli._options import AsJson
from groundserve.cli._output import cell, plain_table, print_json, print_line, progress, stdout
from groundserve.errors import InvalidRequestError
from groundserve.runtime.own_packages import require_own

if TYPE_CHECKING:
    from train.config import Stage

STAGES: dict[Stage, str] = {
    "projector": "Stage 1: the projector learns to caption images.",
    "images": "Stage 2: all but the vision tower learns to answer about images.",
    "video": "Stage 3: the same on videos.",
    "grounding": "Stage 4: all but the vision tower learns to score frames.",
    "vtimellm-1": "VTimeLLM 1: the projector learns to caption images.",
    "vtimellm-2": "VTimeLLM 2: an adapter learns to tell what happens when.",
    "vtimellm-3": "VTimeLLM 3: a second adapter, upon the first, learns to converse.",
    "grounded-videollm-pretrain": "Grounded-VideoLLM 1: both projectors learn to caption.",
    "grounded-videollm-grounded": "Grounded-VideoLLM 2: the decoder learns to tell times.",
    "grounded-videollm-sft": "Grounded-VideoLLM 3: it goes on, on questions of every kind.",
    "vtgllm-instruct": "VTG-LLM: all but EVA and Llama's layers learn to tell times.",
}
"""VideoITG's four, then those of other families, each named after its own."""
EXIT_NOT_USABLE = 2
"""Of `train check`, as of everything that the caller has to change."""

app = typer.Typer(
    help="""Train one stage and write a checkpoint that `build` and `score` take.

    Example: [bold]groundserve train check --config run.toml[/bold]

    Example: [bold]groundserve train grounding --config run.toml[/bold]

    Example: [bold]torchrun --nproc-per-node 8 -m groundserve.cli.main train grounding
    --config run.toml --resume[/bold]
    """,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_Config = Annotated[Path, typer.Option(help="TOML file: what differs from the stage's own.")]


def _add_stage(stage: Stage, summary: str) -> None:
    @app.command(stage, help=f"{summary}\n\n{_STAGE_HELP.format(stage=stage)}")
    def command(
        config: _Config,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on from the newest checkpoint in `out`.")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        check_input(config)
        _load("train_run").train_stage(stage, config, resume=resume, as_json=as_json)


_STAGE_HELP = """`out/metrics.jsonl` and `out/tensorboard` have a line a step; `out/final` is
the result. For several processes start it with torchrun, and set
`parallelism` in the file. On SIGTERM it finishes its step, writes a
checkpoint and ends with code 75; a second SIGTERM ends it at once.

Example: [bold]groundserve train {stage} --config run.toml[/bold]
"""
for _stage, _summary in STAGES.items():
    _add_stage(_stage, _summary)


@app.command("check")
def check_run(
    config: _Config,
    stage: Annotated[
        str | None,
        typer.Argument(help="As a run of it is called; else the file's `stage`."),
    ] = None,
    samples: Annotated[int, typer.Option(help="Videos or images to open.")] = 32,
    gpus: Annotated[
        int | None, typer.Option(help="GPUs that share this machine's cores; else those it has.")
    ] = None,
    gpu_tflops: Annotated[float, typer.Option(help="Peak of a GPU in bf16.")] = 989.0,
    utilisation: Annotated[float, typer.Option(help="Share of it that training reaches.")] = 0.4,
    as_json: AsJson = False,
) -> None:
    """Say what would go wrong in a run, and whether decoding keeps up with the GPUs.

    Checks every record, looks up every file, and reads a few samples as the
    run would. Needs no GPU and reads no weights. Ends with code 0 if the run
    is usable, 2 if it is not: more than `data.max_unreadable_share` of it
    would be lost, or it could not begin.

    Example: [bold]groundserve train check --config run.toml[/bold]

    Example: [bold]groundserve train check grounding --config run.toml --gpus 8 --json[/bold]
    """
    known_stage = _known_stage(stage)
    check_input(config)
    is_usable = _load("train_check").check_run(
        known_stage,
        config,
        num_sampled=samples,
        num_gpus=gpus,
        gpu_tflops=gpu_tflops,
        utilisation=utilisation,
        as_json=as_json,
    )
    raise typer.Exit(0 if is_usable else EXIT_NOT_USABLE)


@app.command("convert")
def convert_dataset(
    dataset: Annotated[str, typer.Argument(help="llava-pretrain, llava-onevision or llava-video.")],
    source: Annotated[Path, typer.Argument(help="Folder that it was downloaded to.")],
    out: Annotated[Path, typer.Argument(help="Folder for the result.")],
    include: Annotated[
        list[str] | None,
        typer.Option(help="Record files to take, a glob pattern; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a training set as it is published to what `train` reads.

    OUT/records.json and OUT/media are what a run's `data.records` and `data.media_root` name;
    OUT/bad_records.jsonl has what was left out, with the rule it breaks. Interrupted, the same
    command goes on where it stopped.

    Example: [bold]groundserve train convert llava-video LLaVA-Video-178K data/llava-video[/bold]

    Example: [bold]groundserve train convert llava-onevision LLaVA-OneVision-Data data/ai2d
    --include 'ai2d*'[/bold]
    """
    if not source.is_dir():
        raise InvalidRequestError(f"no such folder to convert from: {source}")
    require_own("train")
    convert = extras.load("train.convert", "train").convert
    with progress("reading") as show:
        report = convert(dataset, source, out, include=include or (), on_file=show)
    if as_json:
        print_json(
            {**asdict(report), "records": str(report.records), "media_root": str(report.media_root)}
        )
        return
    table = plain_table("number", "records")
    rows = {
        "about an image": report.num_images,
        "about a video": report.num_videos,
        "text alone": report.num_records - report.num_images - report.num_videos,
        "left out": report.num_bad,
        **{f"  {rule}": number for rule, number in report.bad_rules.items()},
    }
    for what, number in rows.items():
        table.add_row(f"{number:,}", cell(what))
    stdout.print(table)
    print_line(f"records {report.records}, media_root {report.media_root}")


def _known_stage(stage: str | None) -> Stage | None:
    if stage is not None and stage not in STAGES:
        raise InvalidRequestError(f"STAGE must be one of {', '.join(STAGES)}, got {stage}")
    return stage


def _load(module: str) -> Any:
    """Import what does the work, which needs groundserve's own `train` and its extra."""
    require_own("train")
    return extras.load(f"groundserve.cli.{module}", "train")

"""`groundserve eval`: how well a checkpoint, engine or server ranks frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from groundserve.cli._output import print_json, progress, stderr
from groundserve.cli.eval_tables import print_downstream, print_moments, print_report
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.control import ControlReport, make_control_report
from groundserve.evaluation.grounding_records import GroundingRecord, read_grounding_records
from groundserve.evaluation.qvhighlights import make_moment_report
from groundserve.evaluation.qvhighlights_files import read_ground_truth, read_predictions
from groundserve.evaluation.report import Report, ScoredQuestion, make_report
from groundserve.evaluation.scored_records import OPTIONS, ScoredRecords, score_records
from groundserve.scoring.opener import open_scorer
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT

NAME = "eval"

_SCORING = {"checkpoint", "engines", "server", "top_k", "jsonl"}
_GOES_WITH = {
    "predictions": {"ground_truth"},
    "records": {"media_root"} | _SCORING,
    "num_videos": {"num_frames", "keep"} | _SCORING,
}
"""By the option that names a source of questions, the options that may be given with it."""
_ALWAYS = {"seed", "as_json"}


def command(
    ctx: typer.Context,
    records: Annotated[
        Path | None, typer.Option(help="VideoITG-40K records (JSON) to score.")
    ] = None,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that the records' video paths start from.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the MovingDigits set, the shuffled questions, the intervals.")
    ] = 0,
    num_videos: Annotated[int, typer.Option(help="Videos of the MovingDigits set.")] = 100,
    num_frames: Annotated[int, typer.Option(help="Frames scored of each of them.")] = 48,
    checkpoint: Annotated[
        str | None, typer.Option(help="Score with PyTorch: checkpoint directory or hub id.")
    ] = None,
    engines: Annotated[
        Path | None, typer.Option(help="Score in this process with an engine directory.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Score on a running server: grpc://HOST:PORT.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="K of the recall, and of the downstream test.")] = 8,
    keep: Annotated[
        Path | None, typer.Option(help="Empty or new folder to keep the MovingDigits set in.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    jsonl: Annotated[
        Path | None, typer.Option(help="Append the reference's records to this file.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Predictions in QVHighlights format (JSONL); no model.")
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option(help="Ground truth in QVHighlights format, for --predictions.")
    ] = None,
) -> None:
    """Measure how well frames are ranked, spans found and absent things told.

    Without --records or --predictions, draws MovingDigits test videos that no checkpoint was
    trained on; the same --seed draws the same ones. Without --checkpoint, --engines or --server,
    evaluates the small checkpoint that comes with groundserve. docs/evaluation.md defines all
    figures; intervals are 95% bootstrap intervals over videos.

    Example: [bold]groundserve eval --checkpoint my-checkpoint --seed 7 --top-k 8[/bold]
    """
    _refuse_mixtures(ctx)
    for name, value, minimum in (("seed", seed, 0), ("top_k", top_k, 1)):
        if value < minimum:
            raise InvalidRequestError(f"{name} must be >= {minimum}, got {value}")
    if predictions is not None and ground_truth is not None:
        _compare_moments(predictions, ground_truth, seed=seed, as_json=as_json)
        return
    with TemporaryDirectory(prefix="groundserve-eval-") as scratch, progress("loading") as step:
        with open_scorer(checkpoint, engines, server) as scorer:
            if records is not None and media_root is not None:
                source = _open_records(records, media_root)
            else:
                step(f"drawing {num_videos} videos")
                source = _draw_digits(
                    keep or Path(scratch), seed=seed, num_videos=num_videos, num_frames=num_frames
                )
            scored = score_records(
                scorer,
                source.records,
                media_root=source.media_root,
                seed=seed,
                jsonl=jsonl,
                on_video=lambda number, total: step(f"scoring video {number} of {total}"),
            )
        downstream = None
        if checkpoint is None and engines is None and server is None:
            checkpoint = str(SHIPPED_CHECKPOINT)
        if records is None and checkpoint is not None:
            step("answering from the selected frames")
            downstream = _downstream(
                source.path,
                checkpoint=checkpoint,
                scored=scored.questions,
                num_selected=top_k,
                seed=seed,
            )
        step("estimating intervals")
        report, control = _estimate(scored, top_k=top_k, seed=seed)
    _print_notes(scored)
    if not as_json:
        print_report(report, control)
        if downstream is not None:
            print_downstream(downstream)
        return
    print_json(
        {
            "source": source.description,
            "sampling": {"rule": OPTIONS.sampling, "sample_fps": OPTIONS.sample_fps},
            "num_left_out": scored.num_left_out,
            "report": report.as_dict(),
            "control": control.as_dict() if control else None,
            "downstream": downstream,
            "engine": scored.engine,
        }
    )


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where the questions come from."""

    path: Path
    """Of the records."""
    media_root: Path
    """Folder that their video paths start from."""
    records: Sequence[GroundingRecord]
    """At least one."""
    description: dict[str, Any]
    """What the JSON says about it."""


def _open_records(path: Path, media_root: Path) -> _Source:
    return _Source(
        path=path,
        media_root=media_root,
        records=read_grounding_records(path),
        description={"kind": "records", "records": str(path), "media_root": str(media_root)},
    )


def _draw_digits(out: Path, *, seed: int, num_videos: int, num_frames: int) -> _Source:
    from train.digits.dataset import VERSION, write_grounding_set

    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InvalidRequestError(f"--keep must name an empty or new folder, {out} is none")
    path = write_grounding_set(
        out, split="test", seed=seed, num_videos=num_videos, num_frames=num_frames
    )
    description = {
        "kind": "moving_digits",
        "version": VERSION,
        "split": "test",
        "seed": seed,
        "num_videos": num_videos,
        "num_frames": num_frames,
    }
    return _Source(
        path=path,
        media_root=path.parent,
        records=read_grounding_records(path),
        description=description,
    )


def _downstream(
    records_path: Path,
    *,
    checkpoint: str,
    scored: Sequence[ScoredQuestion],
    num_selected: int,
    seed: int,
) -> dict[str, Any] | None:
    from train.digits.downstream import downstream_report

    return downstream_report(
        records_path, checkpoint=checkpoint, scored=scored, num_selected=num_selected, seed=seed
    )


def _estimate(
    scored: ScoredRecords, *, top_k: int, seed: int
) -> tuple[Report, ControlReport | None]:
    if not scored.questions:
        raise InvalidRequestError(
            "frame_num of every record lies past the frames that its video gives at 1 frame a "
            "second; --records and --media-root do not belong together"
        )
    report = make_report(scored.questions, top_k=top_k, seed=seed)
    if not scored.stand_ins:
        return report, None
    return report, make_control_report(scored.present, scored.stand_ins, seed=seed)


def _print_notes(scored: ScoredRecords) -> None:
    if scored.num_left_out:
        stderr.print(
            f"note: {scored.num_left_out} records are left out: their frame_num lies past the "
            "frames that the video gives",
            soft_wrap=True,
        )
    if scored.engine.get("note"):
        stderr.print(f"note: {scored.engine['note']}", soft_wrap=True)


def _compare_moments(predictions: Path, ground_truth: Path, *, seed: int, as_json: bool) -> None:
    with progress("comparing"):
        report = make_moment_report(
            read_predictions(predictions), read_ground_truth(ground_truth), seed=seed
        )
    if as_json:
        print_json(report.as_dict())
    else:
        print_moments(report)


def _refuse_mixtures(ctx: typer.Context) -> None:
    """Refuse options of two sources of questions, and half of a pair."""
    given = {name for name in ctx.params if _is_given(ctx, name)} - _ALWAYS
    for first, second in (("records", "media_root"), ("predictions", "ground_truth")):
        for one, other in ((first, second), (second, first)):
            if one in given and other not in given:
                raise InvalidRequestError(f"{_flag(one)} needs {_flag(other)}")
    source = next((name for name in ("predictions", "records") if name in given), "num_videos")
    strangers = sorted(given - {source} - _GOES_WITH[source])
    if strangers:
        raise InvalidRequestError(f"{_flag(strangers[0])} does not go with {_flag(source)}")


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag(name: str) -> str:
    return "--json" if name == "as_json" else "--" + name.replace("_", "-")

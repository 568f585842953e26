"""What bare `groundserve eval` is asked and does: score questions, once a model, and estimate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from groundserve.cli._options import AsJson, Checkpoint
from groundserve.cli._output import print_note
from groundserve.cli.eval_tables import print_comparison, print_downstream, print_report
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.comparison import Comparison, make_comparison
from groundserve.evaluation.grounding_records import GroundingRecord, read_grounding_records
from groundserve.evaluation.report import ControlReport, Report, make_control_report, make_report
from groundserve.evaluation.scored_records import OPTIONS, ScoredRecords, score_records
from groundserve.evaluation.videos import require_files
from groundserve.families import open_checkpoint
from groundserve.runtime.own_packages import require_own
from groundserve.scorer import Scorer
from groundserve.scoring.opener import open_scorer
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """The options of bare `eval`."""

    records: Annotated[Path | None, typer.Option(help="VideoITG-40K records (JSON) to score.")] = (
        None
    )
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that the records' video paths start from.")
    ] = None
    seed: Annotated[
        int, typer.Option(help="Of the MovingDigits set, the shuffled questions, the intervals.")
    ] = 0
    num_videos: Annotated[int, typer.Option(help="Videos of the MovingDigits set.")] = 100
    num_frames: Annotated[int, typer.Option(help="Frames scored of each of them.")] = 48
    checkpoint: Checkpoint = None
    engines: Annotated[
        Path | None, typer.Option(help="Score in this process with an engine directory.")
    ] = None
    server: Annotated[
        str | None, typer.Option(help="Score on a running server: grpc://HOST:PORT.")
    ] = None
    baseline: Annotated[
        str | None,
        typer.Option(help="Checkpoint to compare with, on the same questions: is it better?"),
    ] = None
    top_k: Annotated[int, typer.Option(help="K of the recall, and of the downstream test.")] = 8
    keep: Annotated[
        Path | None, typer.Option(help="Empty or new folder to keep the MovingDigits set in.")
    ] = None
    as_json: AsJson = False
    jsonl: Annotated[
        Path | None,
        typer.Option(
            help="Append the reference's records to this file; needs --sampling infer, since a "
            "benchmark samples otherwise."
        ),
    ] = None
    sampling: Annotated[
        str | None,
        typer.Option(
            help="infer (rule A at 1 frame a second, at most 1,024): the only one, since the "
            "records' labels count its frames."
        ),
    ] = None
    predictions: Annotated[
        Path | None, typer.Option(help="Predictions in QVHighlights format, as `eval moments`.")
    ] = None
    ground_truth: Annotated[
        Path | None, typer.Option(help="Ground truth in QVHighlights format, for --predictions.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Questions about videos."""

    path: Path
    media_root: Path
    """Folder that their video paths start from."""
    records: Sequence[GroundingRecord]
    """At least one."""
    description: dict[str, Any]
    """What the JSON says about it."""


def open_records(path: Path, media_root: Path) -> Source:
    """Read a file of records, all of whose videos are there."""
    records = read_grounding_records(path)
    if not any(record.positive_frames for record in records):
        raise InvalidRequestError(
            f"{path}: frame_num of all {len(records)} records is empty, so there is nothing to "
            "rank; give questions that some frame answers"
        )
    require_files((record.video for record in records), media_root)
    return Source(
        path=path,
        media_root=media_root,
        records=records,
        description={"kind": "records", "records": str(path), "media_root": str(media_root)},
    )


def check_digits(given: EvalOptions) -> None:
    """Refuse a MovingDigits test set that could not be drawn or measured."""
    require_own("train")
    for name in ("num_videos", "num_frames"):
        if getattr(given, name) < 1:
            raise InvalidRequestError(f"{name} must be >= 1, got {getattr(given, name)}")
    if given.top_k > given.num_frames:
        raise InvalidRequestError(
            f"top_k must be at most the {given.num_frames} frames of a video (num_frames), "
            f"got {given.top_k}: keeping every frame tells nothing"
        )
    keep = given.keep
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise InvalidRequestError(f"--keep must name an empty or new folder, {keep} is none")


def _draw_digits(given: EvalOptions, scratch: Path) -> Source:
    """Write the videos and their records, to `scratch` unless they are kept."""
    from train.digits.dataset import VERSION, write_grounding_set

    drawn: dict[str, Any] = {
        "split": "test",
        "seed": given.seed,
        "num_videos": given.num_videos,
        "num_frames": given.num_frames,
    }
    path = write_grounding_set(given.keep or scratch, **drawn)
    return Source(
        path=path,
        media_root=path.parent,
        records=read_grounding_records(path),
        description={"kind": "moving_digits", "version": VERSION, **drawn},
    )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that is said of one model, and of how it compares with a baseline."""

    description: dict[str, Any]
    scored: ScoredRecords
    report: Report
    control: ControlReport | None
    """None where one video has nobody to borrow a question from."""
    downstream: dict[str, Any] | None
    """None where the set or the scorer has no such test."""
    baseline: str | None
    """Another checkpoint, asked the same questions."""
    others: ScoredRecords | None
    """The baseline's."""
    comparison: Comparison | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        baseline = None
        if self.others is not None:
            baseline = {
                "checkpoint": self.baseline,
                "num_left_out": self.others.num_left_out,
                "engine": self.others.engine,
            }
        return {
            "source": self.description,
            "sampling": {"rule": OPTIONS.sampling, "sample_fps": OPTIONS.sample_fps},
            "num_left_out": self.scored.num_left_out,
            "report": self.report.as_dict(),
            "control": self.control.as_dict() if self.control else None,
            "downstream": self.downstream,
            "engine": self.scored.engine,
            "baseline": baseline,
            "comparison": self.comparison.as_dict() if self.comparison else None,
        }

    def print_notes(self) -> None:
        """Say on stderr what was left out, and what the checkpoint says of itself."""
        if self.scored.num_left_out:
            print_note(
                f"{self.scored.num_left_out} records are left out: their frame_num lies past the "
                "frames that the video gives"
            )
        if self.scored.engine.get("note"):
            print_note(self.scored.engine["note"])

    def print_tables(self) -> None:
        """Print all figures on stdout."""
        print_report(self.report, self.control)
        if self.downstream is not None:
            print_downstream(self.downstream)
        if self.comparison is not None:
            print_comparison(self.comparison, baseline=str(self.baseline))


def evaluate(
    given: EvalOptions, source: Source | None, *, step: Callable[[str], None]
) -> Evaluation:
    """Score every question and estimate every figure; without a source digits are drawn."""
    is_drawn, checkpoint = source is None, given.checkpoint
    if given.baseline is not None:
        # Now, without its weights, and not after the hours that the other one may take.
        open_checkpoint(given.baseline)
    others = downstream = None

    def score(scorer: Scorer, source: Source, with_whom: str = "", **others: Any) -> ScoredRecords:
        return score_records(
            scorer,
            source.records,
            media_root=source.media_root,
            seed=given.seed,
            on_video=lambda number, total: step(f"scoring video {number} of {total}{with_whom}"),
            **others,
        )

    with TemporaryDirectory(prefix="groundserve-eval-") as scratch:
        with open_scorer(checkpoint, given.engines, given.server) as scorer:
            if source is None:
                step(f"drawing {given.num_videos} videos")
                source = _draw_digits(given, Path(scratch))
            scored = score(scorer, source, jsonl=given.jsonl)
        # When the first model is closed: two of them need no more memory than one.
        if given.baseline is not None:
            step("loading the baseline")
            with open_scorer(given.baseline, None, None) as scorer:
                others = score(scorer, source, " with the baseline")
        if checkpoint is None and given.engines is None and given.server is None:
            checkpoint = str(SHIPPED_CHECKPOINT)
        if is_drawn and checkpoint is not None:
            step("answering from the selected frames")
            from train.digits.downstream import downstream_report

            downstream = downstream_report(
                source.path,
                checkpoint=checkpoint,
                scored=list(scored.questions.values()),
                num_selected=given.top_k,
                seed=given.seed,
            )
    step("estimating intervals")
    figures = {"top_k": given.top_k, "seed": given.seed}
    report, control = _estimate(scored, **figures)
    return Evaluation(
        description=source.description,
        scored=scored,
        report=report,
        control=control,
        downstream=downstream,
        baseline=given.baseline,
        others=others,
        comparison=None if others is None else make_comparison(scored, others, **figures),
    )


def _estimate(
    scored: ScoredRecords, *, top_k: int, seed: int
) -> tuple[Report, ControlReport | None]:
    if not scored.present:
        raise InvalidRequestError(
            "nothing to rank: frame_num of every record that is not empty lies past the frames "
            "that its video gives at 1 frame a second; it counts those frames, from 0, and not the "
            "file's, or --records and --media-root do not belong together"
        )
    report = make_report(list(scored.questions.values()), top_k=top_k, seed=seed)
    if not scored.stand_ins:
        return report, None
    own, shuffled = list(scored.present.values()), list(scored.stand_ins.values())
    return report, make_control_report(own, shuffled, seed=seed)

"""What bare `groundserve eval` does: scores questions, once a model, and estimates figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from groundserve.cli._output import print_note
from groundserve.cli.eval_tables import print_comparison, print_downstream, print_report
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.comparison import Comparison, make_comparison
from groundserve.evaluation.grounding_records import GroundingRecord, read_grounding_records
from groundserve.evaluation.report import ControlReport, Report, make_control_report, make_report
from groundserve.evaluation.scored_records import (
    OPTIONS,
    ScoredRecords,
    require_videos,
    score_records,
)
from groundserve.families import open_checkpoint
from groundserve.runtime.own_packages import require_own
from groundserve.scorer import Scorer
from groundserve.scoring.opener import open_scorer
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT


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
    require_videos(records, media_root)
    return Source(
        path=path,
        media_root=media_root,
        records=records,
        description={"kind": "records", "records": str(path), "media_root": str(media_root)},
    )


@dataclass(frozen=True, kw_only=True)
class DigitsSet:
    """A MovingDigits test set that is yet to be drawn."""

    seed: int
    num_videos: int
    num_frames: int
    keep: Path | None
    """Folder to keep it in; None: nowhere."""

    def check(self, *, top_k: int) -> None:
        """Refuse what could not be drawn or measured."""
        require_own("train")
        for name, value in (("num_videos", self.num_videos), ("num_frames", self.num_frames)):
            if value < 1:
                raise InvalidRequestError(f"{name} must be >= 1, got {value}")
        if top_k > self.num_frames:
            raise InvalidRequestError(
                f"top_k must be at most the {self.num_frames} frames of a video (num_frames), "
                f"got {top_k}: keeping every frame tells nothing"
            )
        if self.keep is None or not self.keep.exists():
            return
        if not self.keep.is_dir() or any(self.keep.iterdir()):
            raise InvalidRequestError(
                f"--keep must name an empty or new folder, {self.keep} is none"
            )

    def draw(self, scratch: Path) -> Source:
        """Write the videos and their records, to `scratch` unless they are kept."""
        from train.digits.dataset import VERSION, write_grounding_set

        path = write_grounding_set(
            self.keep or scratch,
            split="test",
            seed=self.seed,
            num_videos=self.num_videos,
            num_frames=self.num_frames,
        )
        return Source(
            path=path,
            media_root=path.parent,
            records=read_grounding_records(path),
            description={
                "kind": "moving_digits",
                "version": VERSION,
                "split": "test",
                "seed": self.seed,
                "num_videos": self.num_videos,
                "num_frames": self.num_frames,
            },
        )


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Another checkpoint on the same questions."""

    checkpoint: str
    scored: ScoredRecords
    comparison: Comparison


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
    baseline: Baseline | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "source": self.description,
            "sampling": {"rule": OPTIONS.sampling, "sample_fps": OPTIONS.sample_fps},
            "num_left_out": self.scored.num_left_out,
            "report": self.report.as_dict(),
            "control": self.control.as_dict() if self.control else None,
            "downstream": self.downstream,
            "engine": self.scored.engine,
            "baseline": {
                "checkpoint": self.baseline.checkpoint,
                "num_left_out": self.baseline.scored.num_left_out,
                "engine": self.baseline.scored.engine,
            }
            if self.baseline
            else None,
            "comparison": self.baseline.comparison.as_dict() if self.baseline else None,
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
        if self.baseline is not None:
            print_comparison(self.baseline.comparison, baseline=self.baseline.checkpoint)


def evaluate(
    questions: Source | DigitsSet,
    *,
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    baseline: str | None,
    top_k: int,
    seed: int,
    jsonl: Path | None,
    step: Callable[[str], None],
) -> Evaluation:
    """Score every question and estimate every figure; arguments are the options' values."""
    if baseline is not None:
        # Now, without its weights, and not after the hours that the other one may take.
        open_checkpoint(baseline)
    other = downstream = None
    with TemporaryDirectory(prefix="groundserve-eval-") as scratch:
        with open_scorer(checkpoint, engines, server) as scorer:
            source = questions
            if isinstance(source, DigitsSet):
                step(f"drawing {source.num_videos} videos")
                source = source.draw(Path(scratch))
            scored = _score(scorer, source, seed=seed, jsonl=jsonl, step=step)
        # When the first model is closed: two of them need no more memory than one.
        if baseline is not None:
            step("loading the baseline")
            with open_scorer(baseline, None, None) as scorer:
                other = _score(scorer, source, seed=seed, step=step, whose=" with the baseline")
        if checkpoint is None and engines is None and server is None:
            checkpoint = str(SHIPPED_CHECKPOINT)
        if isinstance(questions, DigitsSet) and checkpoint is not None:
            step("answering from the selected frames")
            from train.digits.downstream import downstream_report

            downstream = downstream_report(
                source.path,
                checkpoint=checkpoint,
                scored=list(scored.questions.values()),
                num_selected=top_k,
                seed=seed,
            )
    step("estimating intervals")
    report, control = _estimate(scored, top_k=top_k, seed=seed)
    return Evaluation(
        description=source.description,
        scored=scored,
        report=report,
        control=control,
        downstream=downstream,
        baseline=Baseline(
            checkpoint=baseline,
            scored=other,
            comparison=make_comparison(scored, other, top_k=top_k, seed=seed),
        )
        if baseline is not None and other is not None
        else None,
    )


def _score(
    scorer: Scorer,
    source: Source,
    *,
    seed: int,
    step: Callable[[str], None],
    jsonl: Path | None = None,
    whose: str = "",
) -> ScoredRecords:
    return score_records(
        scorer,
        source.records,
        media_root=source.media_root,
        seed=seed,
        jsonl=jsonl,
        on_video=lambda number, total: step(f"scoring video {number} of {total}{whose}"),
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

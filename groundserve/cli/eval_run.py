"""What bare `groundserve eval` does: scores the questions, once a model, and estimates figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from groundserve.cli._output import print_note
from groundserve.cli.eval_source import DigitsSet, Source
from groundserve.cli.eval_tables import print_comparison, print_downstream, print_report
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.comparison import Comparison, make_comparison
from groundserve.evaluation.control import ControlReport, make_control_report
from groundserve.evaluation.report import Report, make_report
from groundserve.evaluation.scored_records import OPTIONS, ScoredRecords, score_records
from groundserve.families import open_checkpoint
from groundserve.scorer import Scorer
from groundserve.scoring.opener import open_scorer
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT


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
    """Score every question and estimate every figure."""
    if baseline is not None:
        _open_without_weights(baseline)  # now, not after the hours that the other one may take
    with TemporaryDirectory(prefix="groundserve-eval-") as scratch:
        with open_scorer(checkpoint, engines, server) as scorer:
            if isinstance(questions, DigitsSet):
                step(f"drawing {questions.num_videos} videos")
                source = questions.draw(Path(scratch))
            else:
                source = questions
            scored = _score(scorer, source, seed=seed, jsonl=jsonl, step=step)
        other = None
        if baseline is not None:
            step("loading the baseline")
            with open_scorer(baseline, None, None) as scorer:
                other = _score(scorer, source, seed=seed, step=step, whose=" with the baseline")
        downstream = None
        if checkpoint is None and engines is None and server is None:
            checkpoint = str(SHIPPED_CHECKPOINT)
        if isinstance(questions, DigitsSet) and checkpoint is not None:
            step("answering from the selected frames")
            downstream = _downstream(
                source.path, checkpoint=checkpoint, scored=scored, num_selected=top_k, seed=seed
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


def _open_without_weights(checkpoint: str) -> None:
    open_checkpoint(checkpoint)


def _downstream(
    records_path: Path, *, checkpoint: str, scored: ScoredRecords, num_selected: int, seed: int
) -> dict[str, Any] | None:
    from train.digits.downstream import downstream_report

    return downstream_report(
        records_path,
        checkpoint=checkpoint,
        scored=list(scored.questions.values()),
        num_selected=num_selected,
        seed=seed,
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

"""One comparison with the reference: its pairs, and the report that they come to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._floor import NetFlop, net_flop
from benchmarks._machine import Peaks
from benchmarks._processes import FIRST_REQUESTS
from benchmarks._reference_ratios import (
    SECOND_QUESTION,
    WORKLOADS,
    Pair,
    Sample,
    Workload,
    ratio_at_equal_peaks,
    ratio_row,
)
from benchmarks._reference_sides import Answer, Ask, Side, run_side
from benchmarks._report import make_report, write_text
from benchmarks.gpu.models import relative_error
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.scoring.gate import TOLERANCES

QUERIES = ("When does the rabbit come out of its hole?", "Which frames show a tree?")
_WARM_UP = f"bikes.mp4, 20 frames, in each process; {FIRST_REQUESTS} times through Triton"
_QUESTION = "times faster than the reference's procedure, pair by pair"


@dataclass(kw_only=True)
class Run:
    """What is measured with, and the pairs that are done."""

    checkpoint: Checkpoint
    """The model."""
    engines: Path
    """Its engine directory of profile `cpu`."""
    engines_int8: Path | None
    """The same in int8."""
    warm_up: Path
    """The other video."""
    videos: dict[str, Path]
    """By ratio."""
    peaks: Peaks
    """Of this machine."""
    commit: str | None
    """Of this checkout; pairs that a resumed run brings keep theirs."""
    settings: dict[str, Any]
    """What must be the same for a run to be resumed."""
    inputs: list[dict[str, Any]]
    """For the report."""
    left_out: dict[str, str]
    """Ratio -> why it is not measured."""
    out: Path
    """Of the report."""
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    """By ratio, `second_question` among them."""

    def measure(self, workload: Workload) -> None:
        """Run one pair and write the report."""
        done = self.pairs.setdefault(workload.ratio, [])
        reference_first = len(done) % 2 == 0
        ours_at = self.engines_int8 if workload.ours == "int8_keyframes" else self.engines
        assert ours_at is not None
        sides = {
            "reference": Side(name="reference", place=self.checkpoint.directory),
            "ours": Side(name=workload.ours, place=ours_at),
        }
        answers = {
            name: run_side(sides[name], self._warm_up(), self._asks(workload, name))
            for name in (("reference", "ours") if reference_first else ("ours", "reference"))
        }
        reference, ours = answers["reference"], answers["ours"]

        def pair(number: int, kept: Answer | None = None) -> Pair:
            return Pair(
                reference=Sample.of(reference[number]),
                ours=Sample.of(ours[number]),
                reference_kept=None if kept is None else Sample.of(kept),
                logit_error=logit_error(reference[number], ours[number], workload),
                reference_was_first=reference_first,
                commit=self.commit,
            )

        done.append(pair(0))
        if workload.asks_again:
            self.pairs.setdefault(SECOND_QUESTION, []).append(pair(1, kept=reference[2]))
        self.write()

    def _warm_up(self) -> Ask:
        return Ask(video=self.warm_up, query=QUERIES[0], num_frames=64, sample_fps=2.0)

    def _asks(self, workload: Workload, side: str) -> list[Ask]:
        video = self.videos[workload.ratio]

        def ask(query: str, **options: bool) -> Ask:
            return Ask(video=video, query=query, num_frames=workload.num_frames, **options)

        asks = [ask(QUERIES[0])]
        if workload.asks_again:
            asks.append(ask(QUERIES[1]))
            if side == "reference":
                asks.append(ask(QUERIES[1], keeps_features=True))
        return asks

    def write(self) -> None:
        """Write what is known so far."""
        results = {
            "settings": self.settings,
            "left_out": self.left_out,
            # Plainly, for who reads a ratio: whose kernels the reference's networks ran on.
            "pytorch_share_of_peak": self.peaks.sgemm_gflops_by_library["torch"]
            / self.peaks.sgemm_gflops,
            "ratios": {
                ratio: self._row(ratio, pairs) for ratio, pairs in self.pairs.items() if pairs
            },
        }
        report = make_report(
            _QUESTION,
            results,
            inputs=self.inputs,
            warm_up=_WARM_UP,
            repeats=max((len(pairs) for pairs in self.pairs.values()), default=0),
            peaks=self.peaks,
        )
        write_text(self.out, json.dumps(report, indent=2) + "\n")

    def _row(self, ratio: str, pairs: Sequence[Pair]) -> dict[str, Any]:
        is_second = ratio == SECOND_QUESTION
        is_int8 = any(work.ratio == ratio and not work.is_exact for work in WORKLOADS)
        num_frames = pairs[0].reference.num_frames
        needed = self._flop(num_frames, second=is_second).seconds(self.peaks)
        if is_second:
            del needed["encode"]
        row = ratio_row(
            pairs,
            needed=needed,
            # A keyframe serves several targets: then ours has fewer frames.
            ours=self._flop(pairs[0].ours.num_frames, second=is_second).seconds(
                self.peaks, is_int8=is_int8
            ),
            reference=self._flop(num_frames, second=is_second, all_layers=True).seconds(self.peaks),
        )
        # Its library's own kernels may be far from what the machine can.
        times_faster = self.peaks.sgemm_gflops / self.peaks.sgemm_gflops_by_library["torch"]
        share = row["reference"]["nets_share_of_peak"]
        row["reference"]["nets_share_of_torch_peak"] = share and share * times_faster
        row["if_pytorch_reached_the_peak"] = ratio_at_equal_peaks(pairs, times_faster=times_faster)
        return row

    def _flop(self, num_frames: int, *, second: bool, all_layers: bool = False) -> NetFlop:
        tokenizer, pad_token_id = self.checkpoint.load_tokenizer()
        text_ids = QueryTokenizer(tokenizer, pad_token_id=pad_token_id).text_ids(QUERIES[second])
        return net_flop(
            self.checkpoint,
            num_frames=num_frames,
            num_text_tokens=len(text_ids),
            all_layers=all_layers,
        )


def logit_error(reference: Answer, ours: Answer, workload: Workload) -> float | None:
    """Return how far the logits of a pair are apart; None where the frames are others.

    Raises:
        RuntimeError: The workload is exact, and frames or logits differ: no ratio means anything.
    """
    same = np.array_equal(reference.scored.frame_indices, ours.scored.frame_indices)
    if not same:
        if workload.is_exact:
            raise RuntimeError(f"{workload.ratio}: the sides sampled other frames")
        return None
    error = relative_error(ours.scored.frame_logits, reference.scored.frame_logits)
    bound = TOLERANCES["fp32"].logit_error
    if workload.is_exact and not error <= bound:
        raise RuntimeError(
            f"{workload.ratio}: logits differ by {error:.2g} of their norm, past {bound}"
        )
    return error


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """What a run that was cut off has left."""

    pairs: dict[str, list[Pair]]
    """By ratio."""
    peaks: Peaks
    """As it measured them."""
    inputs: list[dict[str, Any]]
    """Videos it has measured with."""


def resume(path: Path, settings: dict[str, Any]) -> Resumed:
    """Read the report of a run that was cut off.

    Raises:
        ValueError: It ran on another machine, or with other inputs.
    """
    report = json.loads(path.read_text())
    before = report["results"]["settings"]
    # As JSON has them: a tuple comes back as a list.
    wanted = json.loads(json.dumps(settings))
    others = [name for name in wanted if before.get(name) != wanted[name]]
    if others:
        raise ValueError(
            f"{path} cannot be resumed: it was measured with another {', '.join(others)}; "
            "give --out another file"
        )
    pairs = {
        ratio: [Pair.from_dict(raw) for raw in row["all_pairs"]]
        for ratio, row in report["results"]["ratios"].items()
    }
    return Resumed(pairs=pairs, peaks=Peaks(**report["machine"]["peaks"]), inputs=report["inputs"])

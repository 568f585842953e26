"""How much faster than the reference's own procedure, on the same frames of the same video?

python -m benchmarks.vs_reference --media DIR --checkpoint DIR --engines DIR --out JSON
    [--engines-int8 DIR] [--pairs N] [--only RATIO ...] [--seconds 600] [--resume]

Videos are made in `--media` where they are not there yet, engines where `--engines` names none; the
checkpoint is `scripts/make_seeded_checkpoint.py --size small --out DIR`. `_reference` says how the
reference is re-enacted (it needs decord: benchmarks/requirements.txt). Each side answers in a fresh
process that has answered about another video before; which side goes first changes from pair to
pair; the file is in the page cache. Sampled frames must be the same and logits agree as closely as
the gate of a build asks, or the run stops. Every pair is written when it is done, and `--resume`
goes on from there.

The floor is the arithmetic of the networks over the best rate of float32 products that PyTorch and
ONNX Runtime reach on this machine; decoding has none.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._floor import NetFlop, net_flop
from benchmarks._machine import Peaks, describe_machine, measure_peaks
from benchmarks._media import make_video
from benchmarks._reference_ratios import (
    SECOND_QUESTION,
    WORKLOADS,
    Pair,
    Sample,
    Workload,
    ratio_row,
)
from benchmarks._reference_sides import Answer, Ask, Side, run_side
from benchmarks._report import commit, describe_video, make_report, write_text
from benchmarks.gpu.models import relative_error
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.scoring.gate import TOLERANCES

QUERIES = ("When does the rabbit come out of its hole?", "Which frames show a tree?")
_WARM_UP = "bikes.mp4, 20 frames, in each process"
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
        return ratio_row(
            pairs,
            needed=needed,
            # A keyframe serves several targets: then ours has fewer frames.
            ours=self._flop(pairs[0].ours.num_frames, second=is_second).seconds(
                self.peaks, is_int8=is_int8
            ),
            reference=self._flop(num_frames, second=is_second, all_layers=True).seconds(self.peaks),
        )

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


def resume(path: Path, settings: dict[str, Any]) -> tuple[dict[str, list[Pair]], Peaks]:
    """Read the pairs and the peaks of a run that was cut off.

    Raises:
        ValueError: It ran on another commit or machine, or with other inputs.
    """
    report = json.loads(path.read_text())
    before = report["results"]["settings"]
    # As JSON has them: a tuple comes back as a list.
    if before != json.loads(json.dumps(settings)):
        raise ValueError(f"{path} was measured with {before}, not {settings}; write another file")
    pairs = {
        ratio: [Pair.from_dict(raw) for raw in row["all_pairs"]]
        for ratio, row in report["results"]["ratios"].items()
    }
    return pairs, Peaks(**report["machine"]["peaks"])


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [workload.ratio for workload in WORKLOADS]
    parser.add_argument("--media", type=Path, required=True, help="where videos are, or are made")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument(
        "--engines", type=Path, required=True, help="groundserve build CHECKPOINT DIR --profile cpu"
    )
    parser.add_argument("--engines-int8", type=Path, help="the same with --precision int8")
    parser.add_argument("--pairs", type=int, help="of each; 5 or 3 where left out")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--seconds", type=int, default=600, help="length of the videos")
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if importlib.util.find_spec("decord") is None:
        parser.error("decord is not installed: pip install -r benchmarks/requirements.txt")
    if not args.engines.is_dir():
        parser.error(f"--engines {args.engines} is not there; groundserve build makes it")
    if args.pairs is not None and args.pairs < 1:
        parser.error(f"--pairs must be >= 1, got {args.pairs}")
    return args


def main() -> None:
    """Run what is asked for and not done yet."""
    args = parse()
    checkpoint = Checkpoint.open(args.checkpoint)
    workloads = [workload for workload in WORKLOADS if workload.ratio in args.only]
    left_out = {}
    if args.engines_int8 is None:
        kept = [workload for workload in workloads if workload.ours != "int8_keyframes"]
        left_out = {work.ratio: "no --engines-int8" for work in workloads if work not in kept}
        workloads = kept
    num_pairs = {work.ratio: args.pairs or work.pairs for work in workloads}
    settings = {
        "commit": commit(),
        "cpu_model": describe_machine()["cpu_model"],
        "checkpoint": checkpoint.describe(),
        "video_seconds": args.seconds,
        "queries": list(QUERIES),
    }
    pairs: dict[str, list[Pair]] = {}
    peaks = measure_peaks()
    if args.resume and args.out.exists():
        pairs, before = resume(args.out, settings)
        # The better one is nearer to what the machine can.
        peaks = max(peaks, before, key=lambda one: one.sgemm_gflops)
    say(f"GEMM peak: {peaks.sgemm_gflops:.0f} GFLOP/s in float32")
    videos = {
        work.ratio: make_video(
            args.media, codec=work.codec, height=720, gop=work.gop, seconds=args.seconds
        )
        for work in workloads
    }
    clips = Path(os.environ.get("GROUNDSERVE_CLIPS_DIR", ".venv/clips"))
    run = Run(
        checkpoint=checkpoint,
        engines=args.engines,
        engines_int8=args.engines_int8,
        warm_up=clips / "bikes.mp4",
        videos=videos,
        peaks=peaks,
        settings=settings,
        inputs=[describe_video(path) for path in sorted(set(videos.values()))],
        left_out=left_out,
        out=args.out,
        pairs=pairs,
    )
    to_do = [
        work
        for work in workloads
        for _ in range(num_pairs[work.ratio] - len(run.pairs.get(work.ratio, ())))
    ]
    say(f"{len(to_do)} pairs, some {sum(work.rough_seconds for work in to_do) / 60:.0f} minutes")
    for number, work in enumerate(to_do, start=1):
        started = time.perf_counter()
        run.measure(work)
        last = run.pairs[work.ratio][-1]
        ratio = last.reference.usage.wall_seconds / last.ours.usage.wall_seconds
        took = time.perf_counter() - started
        say(f"{number}/{len(to_do)} {work.ratio}: {ratio:.2f} x ({took:.0f} s)")
    run.write()
    print(args.out.read_text())


if __name__ == "__main__":
    main()

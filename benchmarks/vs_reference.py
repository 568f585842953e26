"""How much faster than the reference's own procedure, on the same frames of the same video?

python -m benchmarks.vs_reference --media DIR --checkpoint DIR --engines DIR --out JSON
    [--engines-int8 DIR] [--pairs N] [--only RATIO ...] [--seconds 600]

docs/benchmarks.md says how to make checkpoint and engines, and how it is measured; `_reference`
how the reference is re-enacted. Videos are made in `--media` where they are not there yet. Every
pair is written when it is done.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._command import positive, run
from benchmarks._machine import Peaks, describe_machine, measure_peaks
from benchmarks._reference import Answer, Ask, SideName, run_side
from benchmarks._reference_ratios import Pair, ratio_at_equal_peaks, ratio_row, sample
from benchmarks._report import describe_video, make_report, write_json
from benchmarks._server import FIRST_REQUESTS
from benchmarks.gpu.models import relative_error
from benchmarks.gpu.size import Size
from benchmarks.media import Codec, make_video
from groundserve.engines.manifest import Manifest
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.scoring.gate import TOLERANCES
from scripts import fetch_clips

QUERIES = ("When does the rabbit come out of its hole?", "Which frames show a tree?")
SECOND_QUESTION = "second_question"
"""The ratio of the questions that follow in the workload that asks again."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One video, one number of frames, and who of ours is asked beside the reference."""

    ratio: str
    """Its name in `ratios`, and on the command line."""
    codec: Codec = "h264"
    """Of the video; 720p."""
    gop: int
    """Frames from one key frame to the next."""
    num_frames: int = 64
    """T."""
    pairs: int
    ours: SideName = "in_process"
    asks_again: bool = False
    """Whether a second question about the same video follows."""

    @property
    def is_exact(self) -> bool:
        """Whether both score the same frames in float32, so that the logits must agree."""
        return self.ours != "int8_keyframes"


WORKLOADS = (
    Workload(ratio="cold_gop12", gop=12, pairs=5, asks_again=True),
    Workload(ratio="cold_gop250", gop=250, pairs=5),
    Workload(ratio="cold_vp9", codec="vp9", gop=250, pairs=5),
    Workload(ratio="cold_gop12_512", gop=12, num_frames=512, pairs=3),
    Workload(ratio="triton_gop12", gop=12, pairs=3, ours="triton"),
    Workload(ratio="int8_keyframes_gop250", gop=250, pairs=3, ours="int8_keyframes"),
)


@dataclass(kw_only=True)
class Run:
    """What is measured with, and the pairs that are done."""

    checkpoint: Checkpoint
    engines: dict[SideName, Path]
    """Engine directory of each side of ours."""
    warm_up: Path
    videos: dict[str, Path]
    """By ratio."""
    peaks: Peaks
    settings: dict[str, Any]
    """What the report says of it."""
    inputs: list[dict[str, Any]]
    out: Path
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    """By ratio, `second_question` among them."""

    def measure(self, workload: Workload) -> None:
        """Run one pair and write the report."""
        done = self.pairs.setdefault(workload.ratio, [])
        places = {"reference": self.checkpoint.directory, **self.engines}
        sides: list[SideName] = ["reference", workload.ours]
        is_reference_first = len(done) % 2 == 0
        warm_up = Ask(video=self.warm_up, query=QUERIES[0], num_frames=64, sample_fps=2.0)
        ask = partial(Ask, video=self.videos[workload.ratio], num_frames=workload.num_frames)
        asks = [ask(query=query) for query in (QUERIES if workload.asks_again else QUERIES[:1])]
        answers = {}
        for side in sides if is_reference_first else reversed(sides):
            answers[side] = run_side(side, places[side], warm_up, asks)
        reference, ours = (answers[side] for side in sides)

        def pair(number: int) -> Pair:
            return {
                "reference": sample(reference[number]),
                "ours": sample(ours[number]),
                "logit_error": logit_error(reference[number], ours[number], workload),
                "reference_was_first": is_reference_first,
            }

        done.append(pair(0))
        if workload.asks_again:
            self.pairs.setdefault(SECOND_QUESTION, []).append(pair(1))
        self.write()

    def write(self) -> None:
        """Write what is known so far."""
        results = {
            "settings": self.settings,
            "ratios": {
                ratio: self._row(ratio, pairs) for ratio, pairs in self.pairs.items() if pairs
            },
        }
        report = make_report(
            "times faster than the reference's procedure, pair by pair",
            results,
            inputs=self.inputs,
            warm_up=f"bikes.mp4, 20 frames, in each process; {FIRST_REQUESTS} times through Triton",
            repeats=max((len(pairs) for pairs in self.pairs.values()), default=0),
            peaks=self.peaks,
        )
        write_json(self.out, report)

    def _row(self, ratio: str, pairs: Sequence[Pair]) -> dict[str, Any]:
        is_second = ratio == SECOND_QUESTION
        is_int8 = any(work.ratio == ratio and not work.is_exact for work in WORKLOADS)
        num_frames = pairs[0]["reference"]["num_frames"]
        needed = self.peaks.net_seconds(self._flop(num_frames, second=is_second))
        if is_second:
            del needed["encode"]
        # A keyframe serves several targets: then ours has fewer frames.
        ours = self._flop(pairs[0]["ours"]["num_frames"], second=is_second)
        reference = self._flop(num_frames, second=is_second, all_layers=True)
        row = ratio_row(
            pairs,
            needed=needed,
            ours=self.peaks.net_seconds(ours, is_int8=is_int8),
            reference=self.peaks.net_seconds(reference),
        )
        # PyTorch's kernels may be far from the machine's peak.
        times = self.peaks.sgemm_gflops / self.peaks.sgemm_gflops_by_library["torch"]
        row["if_pytorch_reached_the_peak"] = ratio_at_equal_peaks(pairs, times_faster=times)
        return row

    def _flop(self, num_frames: int, *, second: bool, all_layers: bool = False) -> dict[str, float]:
        tokenizer, pad_token_id = self.checkpoint.load_tokenizer()
        text_ids = QueryTokenizer(tokenizer, pad_token_id=pad_token_id).text_ids(QUERIES[second])
        size = Size.of(self.checkpoint, num_frames=num_frames, num_text_tokens=len(text_ids))
        return size.net_flop(all_layers=all_layers)


def logit_error(reference: Answer, ours: Answer, workload: Workload) -> float | None:
    """Return how far the logits of a pair are apart; None where the frames are others.

    Raises RuntimeError where the workload is exact, and they differ: no ratio means anything.
    """
    if not np.array_equal(reference.frame_indices, ours.frame_indices):
        if workload.is_exact:
            raise RuntimeError(f"{workload.ratio}: the sides sampled other frames")
        return None
    error = relative_error(ours.frame_logits, reference.frame_logits)
    bound = TOLERANCES["fp32"].logit_error
    if workload.is_exact and not error <= bound:
        raise RuntimeError(
            f"{workload.ratio}: logits differ by {error:.2g} of their norm, past {bound}"
        )
    return error


say = partial(print, file=sys.stderr, flush=True)
"""Tells whoever waits."""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [workload.ratio for workload in WORKLOADS]
    parser.add_argument("--media", type=Path, required=True, help="where videos are, or are made")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument(
        "--engines", type=Path, required=True, help="its engine directory, profile cpu"
    )
    parser.add_argument("--engines-int8", type=Path, help="the same in --precision int8")
    parser.add_argument("--pairs", type=positive, help="of each; 5 or 3 where left out")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--seconds", type=positive, default=600, help="length of the videos")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if importlib.util.find_spec("decord") is None:
        parser.error("decord is not installed: pip install -r benchmarks/requirements.txt")
    return args


def prepare(
    args: argparse.Namespace, engines: dict[SideName, Path], workloads: Sequence[Workload]
) -> Run:
    """Make the videos and measure the peaks."""
    checkpoint = Checkpoint.open(args.checkpoint)
    clips = Path(os.environ.get("GROUNDSERVE_CLIPS_DIR", ".venv/clips"))
    settings: dict[str, Any] = {
        "cpu_model": describe_machine()["cpu_model"],
        "checkpoint": checkpoint.describe(),
        "video_seconds": args.seconds,
        "queries": list(QUERIES),
    }
    fetch_clips.main(clips)
    peaks = measure_peaks()
    say(f"GEMM peak: {peaks.sgemm_gflops:.0f} GFLOP/s in float32")
    make = partial(make_video, args.media, height=720, seconds=args.seconds)
    videos = {work.ratio: make(codec=work.codec, gop=work.gop) for work in workloads}
    return Run(
        checkpoint=checkpoint,
        engines=engines,
        warm_up=clips / "bikes.mp4",
        videos=videos,
        peaks=peaks,
        settings=settings,
        inputs=[describe_video(path) for path in sorted(set(videos.values()))],
        out=args.out,
    )


def main() -> None:
    """Run what is asked for and not done yet."""
    args = parse()
    engines: dict[SideName, Path] = {"in_process": args.engines, "triton": args.engines}
    if args.engines_int8 is not None:
        engines["int8_keyframes"] = args.engines_int8
    for directory in set(engines.values()):
        Manifest.load(directory)  # one without engines is refused before any video is made
    workloads = [work for work in WORKLOADS if work.ratio in args.only and work.ours in engines]
    runner = prepare(args, engines, workloads)
    to_do = [work for work in workloads for _ in range(args.pairs or work.pairs)]
    for number, work in enumerate(to_do, start=1):
        started = time.perf_counter()
        runner.measure(work)
        pair = runner.pairs[work.ratio][-1]
        ratio = pair["reference"]["usage"]["wall_seconds"] / pair["ours"]["usage"]["wall_seconds"]
        took = time.perf_counter() - started
        say(f"{number}/{len(to_do)} {work.ratio}: {ratio:.2f} x ({took:.0f} s)")
    runner.write()
    print(args.out.read_text())


if __name__ == "__main__":
    run(main)

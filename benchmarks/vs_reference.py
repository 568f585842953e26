"""How much faster than the reference's own procedure, on the same frames of the same video?

python -m benchmarks.vs_reference --media DIR --checkpoint DIR --engines DIR --out JSON
    [--engines-int8 DIR] [--pairs N] [--only RATIO ...] [--seconds 600] [--resume]

Videos are made in `--media` where they are not there yet. The checkpoint is
`scripts/make_seeded_checkpoint.py --size small --out DIR`; engines are what `groundserve build
--checkpoint DIR --out DIR --profile cpu` makes of it, with `--precision int8` for the second.

`_reference` says how the reference is re-enacted (it needs decord: benchmarks/requirements.txt).
Each side answers in a fresh process that has answered about another video before; which side goes
first changes from pair to pair; the file is in the page cache. Sampled frames must be the same and
logits agree as closely as the gate of a build asks, or the run stops. Every pair is written when it
is done, and `--resume` goes on from there, also with another commit: each pair says its own.

The floor is the arithmetic of the networks over the best rate of float32 products that PyTorch and
ONNX Runtime reach on this machine; decoding has none.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

from benchmarks._command import positive, run
from benchmarks._machine import describe_machine, measure_peaks
from benchmarks._media import make_video
from benchmarks._reference_ratios import WORKLOADS
from benchmarks._reference_run import QUERIES, Run, resume
from benchmarks._report import commit, describe_video
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.manifest import Manifest
from scripts import fetch_clips


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
        "--engines", type=Path, required=True, help="its engine directory, profile cpu"
    )
    parser.add_argument("--engines-int8", type=Path, help="the same in --precision int8")
    parser.add_argument("--pairs", type=positive, help="of each; 5 or 3 where left out")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--seconds", type=positive, default=600, help="length of the videos")
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if importlib.util.find_spec("decord") is None:
        parser.error("decord is not installed: pip install -r benchmarks/requirements.txt")
    return args


def main() -> None:
    """Run what is asked for and not done yet."""
    args = parse()
    checkpoint = Checkpoint.open(args.checkpoint)
    clips = Path(os.environ.get("GROUNDSERVE_CLIPS_DIR", ".venv/clips"))
    workloads = [workload for workload in WORKLOADS if workload.ratio in args.only]
    left_out = {}
    if args.engines_int8 is None:
        kept = [workload for workload in workloads if workload.ours != "int8_keyframes"]
        left_out = {work.ratio: "no --engines-int8" for work in workloads if work not in kept}
        workloads = kept
    num_pairs = {work.ratio: args.pairs or work.pairs for work in workloads}
    settings = {
        "cpu_model": describe_machine()["cpu_model"],
        "checkpoint": checkpoint.describe(),
        "video_seconds": args.seconds,
        "queries": list(QUERIES),
    }
    try:
        before = resume(args.out, settings) if args.resume and args.out.exists() else None
    except ValueError as error:
        raise SystemExit(str(error)) from None
    Manifest.load(args.engines)  # a directory without engines is refused before any video is made
    if args.engines_int8 is not None:
        Manifest.load(args.engines_int8)
    fetch_clips.main(clips)
    peaks = measure_peaks()
    if before is not None:
        # The better one is nearer to what the machine can.
        peaks = max(peaks, before.peaks, key=lambda one: one.sgemm_gflops)
    say(f"GEMM peak: {peaks.sgemm_gflops:.0f} GFLOP/s in float32")
    videos = {
        work.ratio: make_video(
            args.media, codec=work.codec, height=720, gop=work.gop, seconds=args.seconds
        )
        for work in workloads
    }
    inputs = {video["name"]: video for video in (before.inputs if before else ())}
    inputs |= {path.name: describe_video(path) for path in sorted(set(videos.values()))}
    runner = Run(
        checkpoint=checkpoint,
        engines=args.engines,
        engines_int8=args.engines_int8,
        warm_up=clips / "bikes.mp4",
        videos=videos,
        peaks=peaks,
        commit=commit(),
        settings=settings,
        inputs=list(inputs.values()),
        left_out=left_out,
        out=args.out,
        pairs=before.pairs if before else {},
    )
    to_do = [
        work
        for work in workloads
        for _ in range(num_pairs[work.ratio] - len(runner.pairs.get(work.ratio, ())))
    ]
    say(f"{len(to_do)} pairs, some {sum(work.rough_seconds for work in to_do) / 60:.0f} minutes")
    for number, work in enumerate(to_do, start=1):
        started = time.perf_counter()
        runner.measure(work)
        last = runner.pairs[work.ratio][-1]
        ratio = last.reference.usage.wall_seconds / last.ours.usage.wall_seconds
        took = time.perf_counter() - started
        say(f"{number}/{len(to_do)} {work.ratio}: {ratio:.2f} x ({took:.0f} s)")
    runner.write()
    print(args.out.read_text())


if __name__ == "__main__":
    run(main)

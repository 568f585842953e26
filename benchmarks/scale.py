"""What do 1,000 hours of video cost, and how many nodes do how much, held up by what?

    python -m benchmarks.scale --profile cpu --checkpoint DIR [--stages JSON] [--out JSON]
    python -m benchmarks.scale --profile gpu [--gpu-check JSON] [--out JSON]

Nothing is timed here but the publishing of a unit on this disk. Profile cpu takes the processor
seconds of a report of `benchmarks.stages` (`--checkpoint` is what it measured: its dimensions give
the operations of other numbers of frames); profile gpu those of a report of `benchmarks.gpu_check`,
and where there is none, published figures at the released model's size. By default the newest
committed report counts. Every number says whether it is measured, computed or given; prices, the
store's bandwidth and the videos are given: put yours.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks._command import existing_file, positive, run
from benchmarks._cost import (
    Cluster,
    Figure,
    Rates,
    Request,
    Video,
    num_decoded,
    stage_seconds,
)
from benchmarks._cost_rates import gpu_rates, measured_rates
from benchmarks._floor import checkpoint_size
from benchmarks._planned_corpus import example_group
from benchmarks._report import write_report
from benchmarks.gpu.size import FULL, Size
from groundserve.batch.storage import open_storage
from groundserve.batch.units import UnitSize, cut_units
from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.checkpoint import Checkpoint

RESULTS = Path(__file__).parent / "results"
NUM_TEXT_TOKENS = 20
RELEASED = replace(FULL, num_text_tokens=NUM_TEXT_TOKENS)
DURATIONS = {"1 minute": 60, "10 minutes": 600, "1 hour": 3600, "2 hours": 7200}
FRAMES = (64, 128, 256, 512, 1024)
"""Those that the model takes."""
QUESTIONS = (1, 4, 16, 32)
QUERY_RATES = (1, 10, 100)
NODES = (1, 4, 16, 64, 256, 1024, 4096)
CORPUS_HOURS = 10e6
_PUBLISHES = 200
ROW_BYTES = 512 * (8 + 8 + 4 + 4)
"""Of an answer at 512 frames, before compression: ordinal, time, logit and score of each."""
_ABOVE_0 = (
    "fps",
    "gop",
    "megabits",
    "num_frames",
    "busy_share",
    "storage_gb_per_second",
    "publish_seconds",
)
_SHARD_BYTES = 64 * ROW_BYTES


def newest(pattern: str) -> Path | None:
    """Return the last committed report by name."""
    return max(RESULTS.glob(pattern), default=None)


def per_1000_hours(video: Video, seconds: float, cluster: Cluster) -> dict[str, float]:
    """Return the hours of cores or GPUs, and the price, of 1,000 hours of such videos."""
    hours = 1000 / video.duration_seconds * seconds / cluster.busy_share
    return {"hours": hours, "price": hours / cluster.node_units * cluster.node_price}


def growth(
    video: Video, request: Request, rates: Rates, size: Size, cluster: Cluster
) -> dict[str, Any]:
    """Return what one video with this request takes, by stage, and 1,000 hours of them."""
    frames = request.frames_of(video)
    stages = stage_seconds(video, request, rates, size)
    seconds = cluster.unit_seconds(stages)
    return {
        "frames": len(frames),
        "pictures_decoded": num_decoded(frames, video.gop),
        "stage_seconds": stages,
        "seconds": seconds,
        "largest_stage": max(stages, key=lambda stage: stages[stage]),
        "seconds_a_question": seconds / request.num_questions,
        "per_1000_video_hours": per_1000_hours(video, seconds, cluster),
        "origin": "computed",
    }


def videos_a_unit(video: Video, *, num_videos: int, workers: int) -> float:
    """Return how many such videos the planner of `groundserve batch` puts into one unit."""
    size = UnitSize.for_job(num_videos, workers=workers)
    groups = [example_group(number, video.num_bytes) for number in range(4 * size.max_groups)]
    units = [len(unit.groups) for unit in cut_units(groups, size)]
    return units[0]


def measure_publishing(folder: Path) -> Figure:
    """Time what the driver does for a unit: the shard's last name, and a line in the journal."""
    storage = open_storage(str(folder))
    for number in range(_PUBLISHES):
        storage.write(f"staging/{number}", os.urandom(_SHARD_BYTES))
    started = time.perf_counter()
    for number in range(_PUBLISHES):
        storage.move(f"staging/{number}", f"scores/{number}.parquet")
        storage.append("log/attempt.jsonl", b"x" * 500 + b"\n")
    return Figure(
        value=(time.perf_counter() - started) / _PUBLISHES,
        unit="seconds a unit",
        origin="measured",
        source=f"{_PUBLISHES} shards on this machine's disk",
    )


def cluster_rows(
    video: Video, seconds: Mapping[str, float], cluster: Cluster
) -> dict[str, dict[str, Any]]:
    """Return what clusters of so many nodes get through, and what holds each up."""
    rows = {}
    for num_nodes in NODES:
        num_videos = round(CORPUS_HOURS * 3600 / video.duration_seconds)
        unit_videos = videos_a_unit(
            video, num_videos=num_videos, workers=num_nodes * cluster.node_units
        )
        limits = cluster.rate_limits(num_nodes, video, seconds, unit_videos=unit_videos)
        bottleneck = min(limits, key=lambda part: limits[part])
        # Hours of video in an hour are seconds of video in a second.
        rate = limits[bottleneck] * video.duration_seconds
        hours = CORPUS_HOURS / rate
        rows[str(num_nodes)] = {
            "video_hours_per_hour": rate,
            "bottleneck": bottleneck,
            "limits": {part: videos * video.duration_seconds for part, videos in limits.items()},
            "days_for_10_million_hours": hours / 24,
            "price_of_10_million_hours": hours * num_nodes * cluster.node_price,
            "videos_a_unit": unit_videos,
            "origin": "computed",
        }
    return rows


@contextmanager
def _read_report(path: Path, runner: str) -> Iterator[Any]:
    """Give a report of another runner; what it lacks within the block is a typed error.

    Raises:
        InvalidRequestError: The file is not such a report.
    """
    try:
        yield json.loads(path.read_bytes())
    except InvalidRequestError:  # a ValueError too
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise InvalidRequestError(
            f"{path} is no report of benchmarks.{runner}: {error!r}"
        ) from error


def read_gpu_rates(path: Path | None = None) -> Rates:
    """Return the rates of a report of `benchmarks.gpu_check`, of published figures without one.

    Args:
        path: The report; the newest that is committed where None.
    """
    path = path or newest("gpu_check*.json")
    if path is None:
        return gpu_rates(None, source="")
    with _read_report(path, "gpu_check") as check:
        return gpu_rates(check, source=path.name)


def read_basis(args: argparse.Namespace) -> tuple[Rates, Size, str, Video | None]:
    """Return rates, the model's dimensions and name, and the video that rates were measured with.

    Raises:
        InvalidRequestError: There is no report of the stages, or no checkpoint is named.
    """
    if args.profile == "gpu":
        return read_gpu_rates(args.gpu_check), RELEASED, RELEASED.name, None
    path = args.stages or newest("stages_*.json")
    if path is None:
        raise InvalidRequestError(
            "no report of the stages is committed: run python -m benchmarks.stages and name it "
            "with --stages"
        )
    if args.checkpoint is None:
        raise InvalidRequestError("profile cpu needs --checkpoint, the one that --stages measured")
    checkpoint = Checkpoint.open(args.checkpoint)
    with _read_report(path, "stages") as report:
        size = checkpoint_size(
            checkpoint,
            num_frames=report["results"]["num_frames"],
            num_text_tokens=NUM_TEXT_TOKENS,
        )
        rates, video = measured_rates(report, size, source=path.name)
    return rates, size, args.checkpoint.name, video


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--profile", choices=("cpu", "gpu"), required=True)
    add("--stages", type=existing_file, help="report of benchmarks.stages")
    add("--checkpoint", type=Path, help="what --stages measured")
    add("--gpu-check", type=existing_file, help="report of benchmarks.gpu_check")
    add("--fps", type=float, default=30.0, help="of the videos")
    add("--gop", type=int, default=250, help="pictures from a key frame to the next (x264's 250)")
    add("--megabits", type=float, default=4.0, help="a second of video")
    add("--num-frames", type=int, default=512)
    add("--node-units", type=positive, help="cores of a node (32), or its GPUs (8)")
    add("--node-price", type=float, help="of an hour of a node (1.5, or 24)")
    add("--busy-share", type=float, default=0.85, help="of the time in which cores or GPUs work")
    add("--storage-gb-per-second", type=float, default=25.0, help="of the store, to all nodes")
    add("--publish-seconds", type=float, default=0.1, help="of a unit, in an object store")
    add("--out", type=Path)
    args = parser.parse_args()
    for name in (*_ABOVE_0, "node_price"):
        value = getattr(args, name)
        is_free = name == "node_price" and value in (None, 0)
        if not is_free and not 0 < value < float("inf"):
            parser.error(f"--{name.replace('_', '-')} must be above 0 and finite, got {value}")
    if args.busy_share > 1:
        parser.error(f"--busy-share must be at most 1, got {args.busy_share}")
    return args


def main() -> None:
    """Compute all tables."""
    args = parse_arguments()
    rates, size, model, measured_with = read_basis(args)
    is_gpu = args.profile == "gpu"
    cluster = Cluster(
        node_units=args.node_units or (8 if is_gpu else 32),
        has_decoders=is_gpu,
        busy_share=args.busy_share,
        storage_bytes_per_second=args.storage_gb_per_second * 1e9,
        publish_seconds=args.publish_seconds,
        node_price=(24.0 if is_gpu else 1.5) if args.node_price is None else args.node_price,
    )
    video = Video(
        duration_seconds=600, fps=args.fps, gop=args.gop, bytes_per_second=args.megabits * 125_000
    )
    request = Request(num_frames=args.num_frames)

    def grown(video: Video, request: Request) -> dict[str, Any]:
        return growth(video, request, rates, size, cluster)

    new = stage_seconds(video, request, rates, size)
    known = {**dict.fromkeys(new, 0.0), "ground": new["ground"], "select": new["select"]}
    served = {
        kind: {**seconds, "call": rates.call.value}
        for kind, seconds in {"new_videos": new, "known_videos": known}.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        publishing = measure_publishing(Path(folder))
    results = {
        "profile": args.profile,
        "model": model,
        "unit": "GPU" if is_gpu else "core",
        "given": {
            "video": asdict(video),
            "num_frames": request.num_frames,
            **asdict(cluster),
        },
        "measured_with": None if measured_with is None else asdict(measured_with),
        "rates": rates.to_dict(),
        "publishing_here": publishing.to_dict(),
        "by_duration": {
            name: grown(replace(video, duration_seconds=seconds), request)
            for name, seconds in DURATIONS.items()
        },
        "by_frames": {
            str(number): grown(video, replace(request, num_frames=number))
            for number in FRAMES
            if number <= size.checkpoint.vision_token_num
        },
        "by_questions": {
            str(number): grown(video, replace(request, num_questions=number))
            for number in QUESTIONS
        },
        "nodes": {
            str(rate): {
                **{kind: cluster.nodes_for(rate, seconds) for kind, seconds in served.items()},
                "origin": "computed",
            }
            for rate in QUERY_RATES
        },
        "clusters": cluster_rows(video, new, cluster),
    }
    write_report(args.out, "what hours of video cost, and what bounds a cluster", results)


if __name__ == "__main__":
    run(main)

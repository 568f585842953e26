"""What do damaged videos do? Mutated files of every container and codec, read as in serving.

python -m benchmarks.hostile [--per-kind 1000] [--seed 0] [--out JSON]

Every file must give frames or a typed error within 5 s and with less than 512 MiB more resident
memory, and an intact video read in between must give the frames it gave at first. Exits with 1
where one did not; the report then names kind and seed, which make the file again.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._report import spread, write_report
from benchmarks._usage import peak_rss_mib
from groundserve.deadline import Deadline
from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from tests import media_assets
from tests.media_assets import asset_maker
from tests.media_assets.mutation import mutate

KINDS = (
    media_assets.H264,
    media_assets.HEVC_OPEN_GOP,
    media_assets.AV1,
    media_assets.FRAGMENTED,
    media_assets.MPEG4_MP4,
    media_assets.VP9,
    media_assets.VP8,
    media_assets.H264_MKV,
    media_assets.AV1_MKV,
    media_assets.MJPEG_AVI,
    media_assets.MPEG4_AVI,
    media_assets.H264_TS,
    media_assets.HEVC_TS,
    media_assets.MPEG2_TS,
    media_assets.PRORES,
    media_assets.JPEG2000,
)
MAX_SECONDS = 5.0
MAX_EXTRA_RSS_MIB = 512.0
CANARY_EVERY = 50
NUM_FRAMES = 8
LEAK = re.compile(r"(?<!\w)/\w|0x[0-9a-f]{4}|Errno|Traceback|\bav\.|libav|ffmpeg", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """What one file did."""

    answer: str
    """"frames", a refusal's first words, or what must not happen."""
    seconds: float
    extra_rss_mib: float
    """Peak of the worker's resident memory over what it was before."""
    is_bad: bool


def read(workers: MediaWorkers, data: bytes) -> NDArray[np.uint8]:
    """Open a video, then cut and decode frames spread over it."""
    limits, deadline = Limits(), Deadline.after(4 * MAX_SECONDS)
    with (
        VideoSource.from_bytes(data, limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        last = video.index.num_source_frames - 1
        wanted = np.unique(np.linspace(0, last, NUM_FRAMES).astype(np.int64))
        return video.decode(video.cut(wanted), image_size=64)


def observe(workers: MediaWorkers, data: bytes) -> Outcome:
    """Read one file and judge how that went."""
    before_mib = reset_peak_rss_mib(workers)
    started = time.perf_counter()
    is_typed, answer = True, "frames"
    try:
        read(workers, data)
    except MediaError as error:
        answer = re.sub(r"\d+", "N", str(error))[:60]
        is_typed = not LEAK.search(str(error))
    except Exception as error:  # noqa: BLE001 - whatever else comes is what this looks for
        answer, is_typed = f"{type(error).__name__}: {error}", False
    seconds = time.perf_counter() - started
    extra_mib = max([peak_rss_mib(pid) for pid in workers.pids()], default=0.0) - before_mib
    is_bad = not is_typed or seconds > MAX_SECONDS or extra_mib > MAX_EXTRA_RSS_MIB
    return Outcome(answer, seconds, extra_mib, is_bad)


def reset_peak_rss_mib(workers: MediaWorkers) -> float:
    """Start the worker's peak anew and return where it starts."""
    for pid in workers.pids():
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return max([peak_rss_mib(pid) for pid in workers.pids()], default=0.0)


def run_kind(intact: bytes, canary: bytes, seeds: range) -> dict[str, Any]:
    """Read one kind's mutated files, and an intact video after every few."""
    outcomes: list[Outcome] = []
    bad: list[dict[str, object]] = []
    with MediaWorkers(limits=Limits()) as workers:
        expected = read(workers, canary)
        for seed in seeds:
            outcome = observe(workers, mutate(intact, seed))
            outcomes.append(outcome)
            if outcome.is_bad:
                bad.append({"seed": seed, **vars(outcome)})
            if seed % CANARY_EVERY == 0 and not np.array_equal(read(workers, canary), expected):
                bad.append({"seed": seed, "answer": "an intact video gives other frames after it"})
    seconds = [outcome.seconds for outcome in outcomes]
    return {
        "answers": dict(Counter(outcome.answer for outcome in outcomes).most_common()),
        "seconds": spread(seconds) | {"max": max(seconds)},
        "max_extra_rss_mib": max(outcome.extra_rss_mib for outcome in outcomes),
        "bad": bad,
    }


def main() -> None:
    """Run every kind."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--per-kind", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first file of each kind")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.per_kind)
    with tempfile.TemporaryDirectory() as folder:
        make = asset_maker(Path(folder))
        canary = make(media_assets.H264).read_bytes()
        kinds = {asset.name: run_kind(make(asset).read_bytes(), canary, seeds) for asset in KINDS}
    num_bad = sum(len(kind["bad"]) for kind in kinds.values())
    results = {"files": len(seeds) * len(KINDS), "num_bad": num_bad, "kinds": kinds}
    write_report(args.out, "what mutated videos do to the media workers", results)
    sys.exit(1 if num_bad else 0)


if __name__ == "__main__":
    main()

"""What does a checksum at each cache hit cost, and what does probing each segment?

    python -m benchmarks.hit_and_open [--out JSON]

An entry with the features of 512 frames at the released model's size (25 tokens of 1,152) is read
with its checksum, as a process does once, and without, as at each later hit. A segment of one group
of pictures is opened with FFmpeg's probing, as any file, and without, as one of ours. Both in turn.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._report import spread, write_report
from benchmarks.segment_cut import run_ffmpeg
from groundserve.deadline import Deadline
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.media._container import open_container, open_segment
from python_backend.cache.entry import Entry, pack, unpack

KEY = "0" * 64
SHAPE = (512, 25, 1152)
CODECS = {
    "h264": ("libx264", "-preset", "veryfast"),
    "vp9": ("libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
}


def in_turn(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> dict[str, Any]:
    """Time two functions alternately; milliseconds, and the second over the first by pairs."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for taken, function in zip(times, (first, second), strict=True):
            started = time.perf_counter()
            function()
            taken.append((time.perf_counter() - started) * 1000)
    ratios = np.array(times[1]) / np.array(times[0])
    low, median, high = np.percentile(ratios, [10, 50, 90])
    return {
        "before_ms": spread(times[0]),
        "after_ms": spread(times[1]),
        "ratio": {"median": median, "p10": low, "p90": high},
    }


def measure_hit(folder: Path, dtype: str, repeats: int) -> dict[str, Any]:
    """Read an entry with and without its checksum."""
    features = np.random.default_rng(0).standard_normal(SHAPE).astype(dtype)
    path = folder / f"{dtype}.entry"
    path.write_bytes(b"".join(pack(KEY, Entry(fields={}, arrays={"features": features}))))

    def read(is_verified: bool) -> Entry:
        return unpack(KEY, np.fromfile(path, np.uint8), is_verified=is_verified)

    return in_turn(lambda: read(False), lambda: read(True), repeats)


def measure_open(folder: Path, codec: str, repeats: int) -> dict[str, Any]:
    """Open a segment with and without probing."""
    video = folder / f"{codec}.mp4"
    run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=4"),
        *("-c:v", *CODECS[codec], "-g", "50", str(video)),
    )
    deadline = Deadline.after(60)
    with (
        MediaWorkers(limits=Limits()) as workers,
        VideoSource.from_path(video, limits=Limits()) as source,
        workers.open(source, deadline=deadline) as opened,
    ):
        ((segment, _),) = list(opened.cut(np.array([60])))
    data = bytes(segment)
    return in_turn(
        lambda: open_container(io.BytesIO(data), Limits()).close(),
        lambda: open_segment(io.BytesIO(data)).close(),
        repeats,
    )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {
            "hit": {d: measure_hit(folder, d, args.repeats) for d in ("float16", "float32")},
            "open": {codec: measure_open(folder, codec, args.repeats) for codec in CODECS},
        }
    write_report(args.out, "a cache hit without its checksum, a segment without probing", results)


if __name__ == "__main__":
    main()

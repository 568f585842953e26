"""Do large uploads leave room for the next ones? /dev/shm of exactly the size that `serve` demands.

sudo python -m benchmarks.uploads [--concurrent 4] [--then 8] [--out JSON]

Large uploads at once, then smaller ones one after another. Every file is a single group of pictures
with padding in its packets, so that each chunk of frames needs the file from its start on: the
largest segments there are. /dev/shm is mounted for this program alone, which needs root.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks._load import served
from benchmarks._report import write_report
from groundserve import Client, ScoreOptions
from groundserve.errors import GroundserveError
from groundserve.limits import MIB
from groundserve.serving.run_folder import SHM_DIR

LARGE_BYTES = 240 * MIB
SMALL_BYTES = 100 * 10**6
NUM_FRAMES = 250
"""Frames of a file, of which `OPTIONS` samples all: four chunks."""
OPTIONS = ScoreOptions(num_frames=NUM_FRAMES, sampling="infer", sample_fps=25)
_MOUNTED_VARIABLE = "GROUNDSERVE_BENCHMARK_SHM"


def one_gop_video(num_bytes: int, *, num_frames: int = NUM_FRAMES) -> bytes:
    """Return an H.264 MP4 of about that size: one key frame, filler (NAL type 12) in packets."""
    pattern = np.indices((64, 64)).sum(0).astype(np.uint8)
    padding = b"\0\0\0\1\x0c" + b"\xff" * (num_bytes // num_frames) + b"\x80"
    with tempfile.TemporaryFile() as file:
        with av.open(file, "w", format="mp4") as container:
            options = {"x264-params": "keyint=infinite:scenecut=0:bframes=0"}
            stream = container.add_stream("libx264", rate=25, options=options)
            stream.width = stream.height = 64
            for i in range(num_frames):
                image = np.repeat(np.roll(pattern, i, 1)[..., None], 3, axis=2)
                for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")):
                    container.mux(_padded(packet, padding))
            for packet in stream.encode():
                container.mux(_padded(packet, padding))
        file.seek(0)
        return file.read()


def measure(concurrent: int, then: int) -> dict[str, Any]:
    """Serve, send the uploads, and say how each ended and what the regions grew to."""
    large, small = one_gop_video(LARGE_BYTES), one_gop_video(SMALL_BYTES)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (_, url):
        with Client(url) as client:

            def outcome(video: bytes) -> str:
                try:
                    client.score(video, "When?", OPTIONS)
                except GroundserveError as error:
                    return f"{type(error).__name__}: {error}"
                return "ok"

            at_start = region_mib()
            with ThreadPoolExecutor(concurrent) as pool:
                first = list(pool.map(outcome, [large] * concurrent))
            after_large = region_mib()
            lone = [outcome(small) for _ in range(then)]
        return {
            "shm_bytes": shm_bytes(),
            "large_bytes": len(large),
            "small_bytes": len(small),
            "concurrent_large": first,
            "lone_small": lone,
            "region_mib": {"start": at_start, "large": after_large, "end": region_mib()},
        }


def shm_bytes() -> int:
    """Return the size of /dev/shm."""
    status = os.statvfs(SHM_DIR)
    return status.f_blocks * status.f_frsize


def region_mib() -> list[int]:
    """Return the sizes of the stubs' regions, the largest first."""
    regions = [path for path in SHM_DIR.iterdir() if path.is_file()]
    return sorted((path.stat().st_size // MIB for path in regions), reverse=True)


def demanded_bytes() -> int:
    """Return what `serve` demands for the engines that are served here."""
    from benchmarks._checkpoint import SEEDED_CHECKPOINT
    from engine_build import build
    from groundserve.limits import Limits
    from groundserve.manifest import REPOSITORY_NAME, Manifest
    from groundserve.serving.repository import read_configs
    from groundserve.serving.shared_memory import region_sizes
    from groundserve.serving.video_tensors import VideoTensors

    with tempfile.TemporaryDirectory() as folder:
        engines = Path(folder) / "engines"
        build(SEEDED_CHECKPOINT, engines, profile="cpu")
        manifest = Manifest.load(engines)
        tensors = VideoTensors.of(manifest.seam, manifest.model, Limits())
        return region_sizes(read_configs(engines / REPOSITORY_NAME), tensors, Limits()).total_bytes


def main() -> None:
    """Mount a /dev/shm of the demanded size, measure there, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrent", type=int, default=4, help="large uploads at once (4)")
    parser.add_argument("--then", type=int, default=8, help="lone uploads afterwards (8)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if _MOUNTED_VARIABLE in os.environ:
        report = measure(arguments.concurrent, arguments.then)
        write_report(arguments.out, "uploads", report)
        return
    size = f"{-(-demanded_bytes() // MIB)}m"
    mount = f'mount -t tmpfs -o size={size} tmpfs {SHM_DIR} && exec "$@"'
    again = [sys.executable, "-m", "benchmarks.uploads", *sys.argv[1:]]
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", *again]
    subprocess.run(command, env={**os.environ, _MOUNTED_VARIABLE: "1"}, check=True)


def _padded(packet: av.Packet[Any], padding: bytes) -> av.Packet[Any]:
    padded = av.Packet(bytes(packet) + padding)
    padded.pts, padded.dts, padded.duration = packet.pts, packet.dts, packet.duration
    padded.time_base, padded.stream = packet.time_base, packet.stream
    padded.is_keyframe = packet.is_keyframe
    return padded


if __name__ == "__main__":
    main()

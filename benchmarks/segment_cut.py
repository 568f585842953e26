"""What does reading 512 frames out of a long video cost, and does it grow with the length?

    python benchmarks/segment_cut.py --out benchmarks/results/segment_cut.json

Makes a 10-minute and a 2-hour 1280x720 H.264 file of the same 20 seconds (copied, not re-encoded),
then probes each, cuts uniform frames in chunks and decodes the chunks to 384x384, as serving does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from benchmarks._usage import peak_rss_mib
from groundserve.deadline import Deadline
from groundserve.limits import MIB, Limits
from groundserve.media import MediaWorkers, VideoSource

SOURCE_SECONDS = 20
GOP_FRAMES = 250


def make_source(path: Path) -> None:
    """Encode the moving test pattern with some noise, at a rate usual for 720p."""
    run_ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=size=1280x720:rate=25:duration={SOURCE_SECONDS}"),
        *("-vf", "noise=alls=6:allf=t", "-c:v", "libx264", "-preset", "veryfast"),
        *("-b:v", "2500k", "-g", str(GOP_FRAMES), str(path)),
    )


def loop_source(source: Path, path: Path, minutes: int) -> None:
    """Repeat a file by copying its packets."""
    loops = minutes * 60 // SOURCE_SECONDS - 1
    run_ffmpeg("-stream_loop", str(loops), "-i", str(source), "-c", "copy", str(path))


def run_ffmpeg(*arguments: str) -> None:
    """Run imageio-ffmpeg's binary."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-y", "-v", "error", *arguments]
    subprocess.run(command, check=True)


def reset_peak_rss() -> None:
    """Start this process's largest resident memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(
    workers: MediaWorkers, path: Path, *, num_frames: int, chunk: int, image_size: int
) -> dict[str, object]:
    """Probe a file, then cut and decode its chunks one after another."""
    deadline = Deadline.after(3600)
    cut_seconds = decode_seconds = 0.0
    segment_bytes = num_segments = 0
    reset_peak_rss()
    start = time.perf_counter()
    with (
        VideoSource.from_path(path, limits=Limits()) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        probe_seconds = time.perf_counter() - start
        last = video.index.num_source_frames - 1
        frame_indices = np.linspace(0, last, num_frames).astype(np.int64)
        for first in range(0, num_frames, chunk):
            start = time.perf_counter()
            segments = video.cut(frame_indices[first : first + chunk])
            cut = time.perf_counter()
            video.decode(segments, image_size=image_size)
            decode_seconds += time.perf_counter() - cut
            cut_seconds += cut - start
            segment_bytes += segments.data.nbytes
            num_segments += segments.num_segments
        (worker_pid,) = workers.pids()
        return {
            "file_mib": round(path.stat().st_size / MIB, 1),
            "num_source_frames": video.index.num_source_frames,
            "duration_seconds": round(video.index.duration_seconds, 1),
            "probe_seconds": round(probe_seconds, 3),
            "cut_seconds": round(cut_seconds, 3),
            "decode_seconds": round(decode_seconds, 3),
            "num_segments": num_segments,
            "segment_mib": round(segment_bytes / MIB, 1),
            "worker_peak_rss_mib": peak_rss_mib(worker_pid),
            "parent_peak_rss_mib": peak_rss_mib(os.getpid()),
        }


def warm_up(workers: MediaWorkers, source_path: Path) -> None:
    """Start the worker; it serves one file, so that its peak memory is that file's."""
    limits, deadline = Limits(), Deadline.after(60)
    with (
        VideoSource.from_path(source_path, limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        video.decode(video.cut(np.array([0])), image_size=8)


def main() -> None:
    """Print the results as JSON, and write them where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num-frames", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=64, help="frames cut and decoded at a time")
    parser.add_argument("--image-size", type=int, default=384)
    parser.add_argument("--minutes", type=int, nargs="+", default=[10, 120])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    sizes = {name: getattr(arguments, name) for name in ("num_frames", "chunk", "image_size")}
    runs = {}
    with tempfile.TemporaryDirectory() as directory:
        source_path = Path(directory, "source.mp4")
        make_source(source_path)
        for minutes in arguments.minutes:
            path = Path(directory, f"{minutes}_minutes.mp4")
            loop_source(source_path, path, minutes)
            with MediaWorkers(limits=Limits()) as workers:
                warm_up(workers, source_path)
                runs[f"{minutes}_minutes"] = measure(workers, path, **sizes)
            path.unlink()
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    text = json.dumps({"machine": machine, "arguments": sizes, "runs": runs}, indent=2)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

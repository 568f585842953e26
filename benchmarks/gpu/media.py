"""Decoding and resizing on the GPU, through DALI, of files that are given."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.models import Bench
from benchmarks.gpu.report import NotRun, PartResult
from benchmarks.gpu.timing import is_gpu, synchronize

_BATCHES = (1, 4, 8)
# The pipeline works ahead by two, which so many runs make small.
_REPEATS = 12
_NUM_THREADS = 8


def measure_media(bench: Bench, media_dir: Path | None) -> PartResult:
    """Time whole files: decoded alone, and decoded and resized, one and several side by side."""
    if importlib.util.find_spec("nvidia.dali") is None:
        return NotRun("nvidia.dali is not installed")
    files = sorted(path for path in media_dir.iterdir() if path.is_file()) if media_dir else []
    if not files:
        return NotRun("no video files given with --media")
    rows: dict[str, Any] = {}
    for file in files:
        for batch in _BATCHES:
            for image_size in (None, bench.size.tower.image_size):
                what = "decode" if image_size is None else "decode and resize"
                name = f"{file.name}: {what}, {batch} side by side"
                try:
                    rows[name] = _measure_file(bench.device, file, batch, image_size)
                except Exception as error:  # noqa: BLE001 - a codec that is not taken is an answer
                    rows[name] = {"not run": f"{type(error).__name__}: {error}"[:300]}
    return rows


def _measure_file(device: str, file: Path, batch: int, image_size: int | None) -> dict[str, float]:
    from nvidia.dali import fn, pipeline_def, types

    encoded = np.fromfile(file, np.uint8)

    @pipeline_def(
        batch_size=batch,
        num_threads=_NUM_THREADS,
        device_id=0 if is_gpu(device) else None,
        exec_dynamic=True,
    )
    def pipeline() -> Any:
        source = fn.external_source(lambda: [encoded] * batch, dtype=types.UINT8)
        frames = fn.decoders.video(source, device="mixed" if is_gpu(device) else "cpu")
        if image_size is not None:
            frames = fn.resize(frames, size=(image_size, image_size))
        return frames

    built = pipeline()
    built.build()
    (frames,) = built.run()
    num_frames = sum(shape[0] for shape in frames.shape())
    synchronize(device)
    started = time.perf_counter()
    for _ in range(_REPEATS):
        built.run()
    synchronize(device)
    seconds = (time.perf_counter() - started) / _REPEATS
    return {
        "frames": num_frames,
        "seconds": seconds,
        "frames_per_second": num_frames / seconds,
    }

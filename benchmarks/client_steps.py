"""What does it cost that `Client` calls the ensemble's steps itself?

python -m benchmarks.client_steps --video FILE [--repeats 15] [--out JSON]

One call of `videoitg` and the three calls of `Client` in turn, on one server, so that the machine's
other load falls on both; they must give the same bits. Two checkpoints: the shipped one, whose
features are small, and a seeded one made as wide as the released model's features are in bytes
(there 1,152 numbers of 16 bits a token, here 576 of 32; 512 frames give 29.5 MB, 250 frames, which
have more tokens each, 36.9 MB). The features come from the cache: the question about a video that
was asked about before is the one that has least else to do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc

from benchmarks._report import spread, write_report
from engine_build import build
from groundserve import Client, ScoreOptions
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from groundserve.serving import TritonServer
from scripts.make_seeded_checkpoint import SIZES, make_checkpoint

QUERY = "When is a parked bicycle shown?"
WIDE = replace(
    SIZES["tiny"],
    vision=SIZES["tiny"].vision
    | {"hidden_size": 576, "num_attention_heads": 9, "num_hidden_layers": 1},
)
WARM_UP = 2


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return milliseconds and the result."""
    started = time.perf_counter()
    result = call()
    return (time.perf_counter() - started) * 1000, result


def measure(
    checkpoint: Path, folder: Path, video: Path, options: ScoreOptions, repeats: int
) -> dict[str, Any]:
    """Time one checkpoint both ways; the video is uploaded with each request."""
    build(checkpoint, folder / "engines", profile="cpu")
    one_ms: list[float] = []
    steps_ms: list[float] = []
    with (
        TritonServer(
            folder / "engines",
            http_port=0,
            grpc_port=0,
            metrics_port=0,
            cache_dir=folder / "cache",
            log_file=folder / "tritonserver.log",
        ) as server,
        Client(f"grpc://{server.grpc_address}") as client,
    ):
        plain = tritonclient.grpc.InferenceServerClient(server.grpc_address)
        inputs = ensemble_inputs(video, options)
        for repeat in range(WARM_UP + repeats):
            steps, result = timed(lambda: client.score(video, QUERY, options))
            one, answer = timed(lambda: plain.infer("videoitg", inputs))
            assert np.array_equal(
                result.queries[0].frame_logits, answer.as_numpy("FRAME_LOGITS")[0]
            )
            if repeat >= WARM_UP:
                one_ms.append(one)
                steps_ms.append(steps)
        plain.close()
    info = json.loads(answer.as_numpy("INFO")[0])
    return {
        "video_bytes": video.stat().st_size,
        "frames": len(result.frame_indices),
        "tokens": len(result.frame_indices) * result.grid**2,
        "stages_ms": info["timing_ms"],
        "one_call_ms": spread(one_ms),
        "three_calls_ms": spread(steps_ms),
        "added_ms": spread([b - a for a, b in zip(one_ms, steps_ms, strict=True)]),
        "ratio": spread([b / a for a, b in zip(one_ms, steps_ms, strict=True)]),
        "bit_equal": True,
    }


def ensemble_inputs(video: Path, options: ScoreOptions) -> list[Any]:
    """Return the tensors of one call of `videoitg`."""
    inputs = []
    for name, kind, array in (
        ("VIDEO", "UINT8", np.fromfile(video, np.uint8)),
        ("QUERY", "BYTES", np.array([QUERY.encode()], np.object_)),
        ("OPTIONS", "BYTES", np.array([options.to_json().encode()], np.object_)),
    ):
        tensor = tritonclient.grpc.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def main() -> None:
    """Measure both checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        wide = Path(name) / "checkpoints" / "wide"
        make_checkpoint(wide, size=WIDE)
        for what, checkpoint, num_frames in (
            ("shipped checkpoint", SHIPPED_CHECKPOINT, 144),
            ("features as wide as the released model's", wide, 512),
        ):
            folder = Path(name) / checkpoint.name
            folder.mkdir()
            options = ScoreOptions(num_frames=num_frames, sample_fps=100, sampling="infer")
            results[what] = measure(checkpoint, folder, args.video, options, args.repeats)
    write_report(args.out, "what it costs that Client calls the ensemble's steps itself", results)


if __name__ == "__main__":
    main()

"""How soon, and with how much memory, is a request refused that no client of ours sends?

python -m benchmarks.refusals [--out JSON]

Each is sent to the `cpu` profile of the seeded checkpoint. Measured are the seconds at the client
and how far the resident memory of any process of the server's rose. Most of what 10 million strings
take is not ours: a request that Triton itself refuses shows what gRPC takes, and one whose deadline
has passed, so that the model looks at nothing, what the Python backend takes besides, which makes
an object of each string before a model sees one.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks._load import served
from benchmarks._processes import name_of
from benchmarks._report import write_report
from groundserve.serving import TritonServer
from tests.hostile.test_tensors import SEGMENTS, SELECTION, stream
from tests.media_assets import ONE_FRAME, asset_maker
from tests.triton.protocol import Arrays, Protocol, RejectedError, texts, upload
from tests.unit.media.test_announced import announcing

FEATURE_WIDTH = 64
"""D_v of the seeded checkpoint."""
NUM_FRAMES = 28_000
NUM_STRINGS = 10**7
NUM_PACKETS = 89 * 10**6
POLL_SECONDS = 0.01


def make_requests(folder: Path) -> dict[str, tuple[str, Arrays]]:
    """Return model and inputs of each."""
    file = announcing(asset_maker(folder)(ONE_FRAME).read_bytes(), NUM_PACKETS)
    strings = np.full(NUM_STRINGS, b"", np.object_)
    passed = {
        "FEATURES": np.zeros((1, 1, FEATURE_WIDTH), np.float32),
        "QUERY": strings,
        "STAGE_INFO": texts('{"timing_ms": {}, "deadline_monotonic_seconds": 0}'),
    }
    return {
        "frame_selector, 28,000 frames": (
            "frame_selector",
            {
                **SELECTION,
                "FRAME_LOGITS": np.random.default_rng(0).normal(size=(5, NUM_FRAMES)).astype("f4"),
                "FRAME_INDICES": np.arange(NUM_FRAMES),
                "PTS_SECONDS": np.arange(float(NUM_FRAMES)),
                "OPTIONS": texts('{"top_k": 14000, "selector": "inverse_transform"}'),
            },
        ),
        "video_decode, 89,000,000 packets announced": (
            "video_decode",
            {
                **SEGMENTS,
                "SEGMENTS": upload(file),
                "SEGMENT_OFFSETS": np.array([0, len(file)]),
                "STREAM": stream(frame_counts=[1]),
            },
        ),
        "video_features, 10,000,000 questions": (
            "video_features",
            {"VIDEO": upload(b"x"), "QUERY": strings},
        ),
        "gRPC alone": ("grounding", {**passed, "FEATURES": np.zeros((1, 1, 1), np.float32)}),
        "gRPC and the Python backend alone": ("grounding", passed),
    }


@contextmanager
def risen_memory(server: TritonServer) -> Iterator[dict[str, float]]:
    """Fill in, at the end of the block, how far each process's memory rose at most, in MiB."""
    root = psutil.Process(server.pid)
    family = [root, *root.children(recursive=True)]
    before = {process: process.memory_info().rss for process in family}
    peaks: dict[psutil.Process, int] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            for process in [root, *root.children(recursive=True)]:
                try:
                    peaks[process] = max(peaks.get(process, 0), process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    risen: dict[str, float] = {}
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield risen
    finally:
        stop.set()
        thread.join()
    for process, peak in peaks.items():
        if process.is_running():
            mib = (peak - before.get(process, 0)) / 1024**2
            name = name_of(process)
            risen[name] = max(risen.get(name, 0.0), mib)


def measure(protocol: Protocol, server: TritonServer, model: str, inputs: Arrays) -> dict[str, Any]:
    """Send one request and say what it took."""
    with risen_memory(server) as risen:
        started = time.perf_counter()
        try:
            protocol.infer(model, inputs)
            answer = "answered"
        except RejectedError as rejection:
            answer = f"{rejection.code}: {rejection.message}"
        seconds = time.perf_counter() - started
    return {
        "answer": answer,
        "client_seconds": seconds,
        "risen_mib": {name: mib for name, mib in risen.items() if mib > 1},
    }


def main() -> None:
    """Send each request twice: the first starts what was not yet running."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as (server, _):
        protocol = Protocol("grpc", server.grpc_address)
        for label, (model, inputs) in make_requests(Path(name)).items():
            runs = [measure(protocol, server, model, inputs) for _ in range(2)]
            results[label] = {"model": model, "first": runs[0], "second": runs[1]}
        protocol.client.close()
    write_report(args.out, "how soon a request that nobody means well with is refused", results)


if __name__ == "__main__":
    main()

"""What the load runners share: a served engine directory, small videos, requests good and bad."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._checkpoint import SEEDED_CHECKPOINT
from engine_build import build
from groundserve import Client, ScoreOptions, ScoreResult
from groundserve.errors import GroundserveError
from groundserve.serving import TritonServer
from tests.media_assets import AV1, H264, H264_TS, HEVC_OPEN_GOP, MJPEG_AVI, VP9, asset_maker

VIDEOS = (H264, HEVC_OPEN_GOP, AV1, VP9, MJPEG_AVI, H264_TS)
_QUERIES = ("When does the square move?", "Which frames show a clock?")


@dataclass(frozen=True)
class Request:
    """What one call of `Client.score` is given."""

    video: bytes
    queries: tuple[str, ...]
    options: ScoreOptions

    def send(self, client: Client) -> ScoreResult:
        """Ask the server."""
        return client.score(self.video, self.queries, self.options)


@dataclass(frozen=True)
class Outcome:
    """How one request went."""

    code: str
    """"ok", or the name of the error's class."""
    seconds: float
    result: ScoreResult | None = None

    @classmethod
    def of(cls, call: Callable[[], ScoreResult], *, since: float | None = None) -> Outcome:
        """Make the call; its time counts from `since`, on the clock of `time.perf_counter()`."""
        started = time.perf_counter() if since is None else since
        try:
            result, code = call(), "ok"
        except GroundserveError as error:
            result, code = None, type(error).__name__
        return cls(code, time.perf_counter() - started, result)


@contextmanager
def served(
    folder: Path, checkpoint: Path = SEEDED_CHECKPOINT
) -> Iterator[tuple[TritonServer, str]]:
    """Build a checkpoint, serve it without a cache, and give the server and its URL."""
    build(checkpoint, folder / "engines", profile="cpu")
    with TritonServer(
        folder / "engines",
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        log_file=folder / "tritonserver.log",
    ) as server:
        yield server, f"grpc://{server.grpc_address}"


def read_metrics(server: TritonServer) -> dict[str, float]:
    """Return what the server's metrics say, by name and labels as they are written."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics") as response:
        text = response.read().decode()
    found = re.findall(r"^(\w+(?:{.*})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def good_requests(folder: Path, num_frames: int) -> list[Request]:
    """One request for each video, with its own number of questions."""
    make = asset_maker(folder)
    options = ScoreOptions(num_frames=num_frames, sampling="infer", sample_fps=5)
    return [
        Request(make(asset).read_bytes(), _QUERIES[: 1 + i % 2], options)
        for i, asset in enumerate(VIDEOS)
    ]


def same_answer(one: ScoreResult, other: ScoreResult) -> bool:
    """Whether two answers agree in every bit but the timing."""
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (one.frame_indices, other.frame_indices),
        (one.pts_seconds, other.pts_seconds),
    ]
    for a, b in zip(one.queries, other.queries, strict=True):
        pairs += [(a.frame_logits, b.frame_logits), (a.selected_frames, b.selected_frames)]
    return all(np.array_equal(a, b) for a, b in pairs)

"""A scorer that does what the name of a video says, for workers that are to meet with the worst.

Workers import this module, so it holds nothing of pytest's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from groundserve.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    MediaError,
    UnavailableError,
)
from groundserve.limits import Limits
from groundserve.options import ScoreOptions
from groundserve.results import ScoreResult, build_score_result
from groundserve.selection import select_frames, sigmoid
from groundserve.triton_messages import DECODER_DIED
from tests.support.results import make_info

IDENTITY = {
    "id": "scripted",
    "checkpoint": "scripted",
    "family": "videoitg",
    "precision": "fp32",
}
BAD_QUERY = "bad"
"""A question that holds this is refused."""
RELEASED = "released"
"""The file beside a held video that lets it go on."""
NUM_FRAMES = 16


@dataclass(frozen=True, kw_only=True)
class ScriptedSource:
    """Opens `ScriptedScorer`s."""

    seconds: float = 0.0
    """How long a video takes that is not cached."""
    calls: Path | None = None
    """File that gets a line for each call: pid, video, questions, "decoded" or "cached"."""
    is_shared: bool = False
    """As `EngineSource` has it."""
    engine_id: str = IDENTITY["id"]
    """What answers say."""

    def open(self, *, num_threads: int, limits: Limits) -> ScriptedScorer:
        """As `EngineSource` has it."""
        return ScriptedScorer(self, limits)


class ScriptedScorer:
    """Answers with numbers that follow from video and question alone."""

    def __init__(self, source: ScriptedSource, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._last = ""

    def score(
        self,
        video: str,
        queries: Sequence[str],
        options: ScoreOptions,
        *,
        span_threshold: float,
        span_gap_seconds: float,
        timeout_seconds: float,
    ) -> ScoreResult:
        """Do what the first word of the file's name says."""
        assert len(queries) <= self._limits.max_queries
        if any(BAD_QUERY in query for query in queries):
            raise InvalidRequestError(f"one of {len(queries)} questions is bad")
        act = ACTS.get(Path(video).name.partition("-")[0])
        if act is not None:
            act(video, timeout_seconds)
        is_cached = self._last == video
        self._last = video
        if not is_cached:
            time.sleep(self._source.seconds)
        if self._source.calls is not None:
            line = f"{os.getpid()} {video} {len(queries)} {'cached' if is_cached else 'decoded'}\n"
            with self._source.calls.open("a") as file:
                file.write(line)
        return answer(
            video,
            queries,
            options,
            engine_id=self._source.engine_id,
            is_cached=is_cached,
            spans=(span_threshold, span_gap_seconds),
        )

    def close(self) -> None:
        """Hold nothing."""

    def __enter__(self) -> ScriptedScorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answer(
    video: str,
    queries: Sequence[str],
    options: ScoreOptions,
    *,
    engine_id: str,
    is_cached: bool,
    spans: tuple[float, float],
) -> ScoreResult:
    """Return the answer: logits drawn by what is asked, some time that no row may show."""
    indices = np.arange(NUM_FRAMES) * 25
    name = Path(video).name
    logits = np.stack(
        [
            np.random.default_rng(list(f"{name} {query}".encode())).standard_normal(NUM_FRAMES)
            for query in queries
        ]
    ).astype(np.float32)
    info = make_info(
        num_source_frames=NUM_FRAMES * 25,
        fps=25.0,
        duration_seconds=float(NUM_FRAMES),
        cache_hit=is_cached,
        timing_ms={"ground": time.perf_counter() % 1},
    )
    selected = [select_frames(row, indices, num_selected=options.top_k) for row in logits]
    return build_score_result(
        queries,
        video=video,
        info=replace(info, engine={"id": engine_id}),
        frame_indices=indices,
        pts_seconds=indices / 25,
        frame_logits=logits,
        frame_scores=sigmoid(logits),
        selected_frames=np.array(selected),
        span_threshold=spans[0],
        span_gap_seconds=spans[1],
    )


def _corrupt(video: str, seconds: float) -> None:
    raise MediaError(f"the video {video!r} is not one that is served here")


def _late(video: str, seconds: float) -> None:
    time.sleep(seconds)
    raise DeadlineExceededError(f"the request did not finish within {seconds:.6g} s")


def _hang(video: str, seconds: float) -> None:
    time.sleep(3600)


def _hang_with_the_lock(video: str, seconds: float) -> None:
    ctypes.PyDLL(None).sleep(3600)


def _die(video: str, seconds: float) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_once(video: str, seconds: float) -> None:
    mark = Path(f"{video}.died")
    if not mark.exists():
        mark.touch()
        _die(video, seconds)


def _wait_for_release(video: str, seconds: float) -> None:
    while not Path(video).with_name(RELEASED).exists():
        time.sleep(0.05)


def _end_decoder(video: str, seconds: float) -> None:
    raise UnavailableError(f"{DECODER_DIED}; the next request gets a new one")


def _end_decoder_once(video: str, seconds: float) -> None:
    mark = Path(f"{video}.died")
    if not mark.exists():
        mark.touch()
        _end_decoder(video, seconds)


def _unavailable(video: str, seconds: float) -> None:
    raise UnavailableError("nobody answers")


def _fault(video: str, seconds: float) -> None:
    raise ZeroDivisionError("a fault of the program")


ACTS: dict[str, Callable[[str, float], None]] = {
    "corrupt": _corrupt,
    "late": _late,
    "hang": _hang,
    "hanglocked": _hang_with_the_lock,
    "die": _die,
    "dieonce": _die_once,
    "decoder": _end_decoder,
    "decoderonce": _end_decoder_once,
    "held": _wait_for_release,
    "unavailable": _unavailable,
    "fault": _fault,
}
"""By the first word of a file's name, up to a dash; any other name is a good video's."""

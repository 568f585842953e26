"""Who answers in `vs_reference`: each side in a fresh process, warmed before it is timed."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks._reference import ReferenceProcedure, Scored
from benchmarks._report import read_through
from benchmarks._server import FIRST_REQUESTS, server_of
from benchmarks._usage import Usage, measured
from groundserve import Client, ScoreOptions, ScoreResult
from groundserve.options import Seek
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline

SideName = Literal["reference", "in_process", "triton", "int8_keyframes"]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question about one video."""

    video: Path
    query: str
    num_frames: int
    """Ceiling on T."""
    sample_fps: float = 1.0
    """As the reference's benchmark runs."""
    keeps_features: bool = False
    """Whether the reference may use the features of the question before; ours always may."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a side answered and what that took, its child processes included."""

    scored: Scored
    usage: Usage
    """Of the whole question."""


Score = Callable[[Ask], Scored]


def run_side(name: SideName, place: Path, warm_up: Ask, asks: Sequence[Ask]) -> list[Answer]:
    """Open a side in a new process, ask about another video, then what is timed, one by one.

    Its place is the checkpoint directory of the reference, the engine directory of ours.
    """
    # A fork would inherit this process's threads and what its libraries have set up.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(answer_all, name, place, warm_up, asks).result()


def answer_all(name: SideName, place: Path, warm_up: Ask, asks: Sequence[Ask]) -> list[Answer]:
    """Do in this process what `run_side` does in a new one."""
    answers = []
    open_side = {"reference": _reference, "triton": _triton}.get(name, _in_process)
    with open_side(name, place, [warm_up, *asks]) as score:
        for _ in range(FIRST_REQUESTS if name == "triton" else 1):
            score(warm_up)
        for ask in asks:
            read_through(ask.video)
            with measured() as meter:
                scored = score(ask)
            answers.append(Answer(scored=scored, usage=meter.usage))
    return answers


@contextmanager
def _reference(name: SideName, checkpoint: Path, asks: Sequence[Ask]) -> Iterator[Score]:
    procedure = ReferenceProcedure(checkpoint)

    def score(ask: Ask) -> Scored:
        if ask.keeps_features:
            return procedure.score_again(ask.query)
        return procedure.score(
            ask.video, ask.query, num_frames=ask.num_frames, sample_fps=ask.sample_fps
        )

    yield score


@contextmanager
def _in_process(name: SideName, engines: Path, asks: Sequence[Ask]) -> Iterator[Score]:
    seek: Seek = "exact" if name == "in_process" else "keyframe"
    with (
        tempfile.TemporaryDirectory() as folder,
        Pipeline.open(
            engines,
            verify_files=False,
            cache=FeatureCache(CacheConfig(directory=Path(folder)), meter=Counts()),
        ) as pipeline,
    ):
        yield lambda ask: _scored(pipeline.score(ask.video, ask.query, _options(ask, seek)))


@contextmanager
def _triton(name: SideName, engines: Path, asks: Sequence[Ask]) -> Iterator[Score]:
    roots = sorted({ask.video.parent.resolve() for ask in asks})
    with (
        tempfile.TemporaryDirectory() as folder,
        server_of(
            engines, Path(folder), allowed_roots=roots, cache_dir=Path(folder) / "cache"
        ) as server,
        Client(f"grpc://{server.grpc_address}") as client,
    ):
        yield lambda ask: _scored(
            client.score(
                queries=ask.query,
                options=_options(ask, "exact"),
                video_uri=ask.video.resolve().as_uri(),
            )
        )


def _options(ask: Ask, seek: Seek) -> ScoreOptions:
    return ScoreOptions(num_frames=ask.num_frames, sample_fps=ask.sample_fps, seek=seek)


def _scored(result: ScoreResult) -> Scored:
    return Scored(
        frame_indices=result.frame_indices,
        frame_logits=result.queries[0].frame_logits,
        timing_ms=dict(result.timing_ms),
    )

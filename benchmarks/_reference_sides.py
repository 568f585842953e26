"""Who answers in `vs_reference`: each side in a fresh process, warmed before it is timed."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from benchmarks._processes import FIRST_REQUESTS
from benchmarks._reference import ReferenceProcedure, Scored
from benchmarks._usage import Usage, measured
from groundserve import Client, ScoreOptions, ScoreResult
from groundserve.options import Seek
from groundserve.serving import TritonServer
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline

SideName = Literal["reference", "in_process", "triton", "int8_keyframes"]
_QUIT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question about one video."""

    video: Path
    """A local file."""
    query: str
    """The question."""
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
    """Frames, logits and stages."""
    usage: Usage
    """Of the whole question."""


Score = Callable[[Ask], Scored]


@dataclass(frozen=True, kw_only=True)
class Side:
    """What a process needs to open one side; goes to it by pickle."""

    name: SideName
    """Which."""
    place: Path
    """Checkpoint directory of the reference, engine directory of ours."""

    @property
    def num_warm_ups(self) -> int:
        """How often it is asked before anything is timed."""
        return FIRST_REQUESTS if self.name == "triton" else 1

    @contextmanager
    def open(self, media: Sequence[Path]) -> Iterator[Score]:
        """Load everything; the files in `media` are those that will be asked about."""
        match self.name:
            case "reference":
                yield _reference(self.place)
            case "triton":
                with _triton(self.place, media) as score:
                    yield score
            case "in_process" | "int8_keyframes":
                seek: Seek = "keyframe" if self.name == "int8_keyframes" else "exact"
                with _in_process(self.place, seek) as score:
                    yield score


def run_side(side: Side, warm_up: Ask, asks: Sequence[Ask]) -> list[Answer]:
    """Open a side in a new process, ask about another video, then what is timed.

    Raises:
        RuntimeError: The process failed; with its traceback.
    """
    # A fork would inherit this process's threads and what its libraries have set up.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, side, warm_up, tuple(asks)))
    process.start()
    theirs.close()
    try:
        answers: list[Answer] | str = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{side.name} ended with status {process.exitcode}") from None
    finally:
        ours.close()
        process.join(_QUIT_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
    if isinstance(answers, str):
        raise RuntimeError(f"{side.name} failed:\n{answers}")
    return answers


def _work(connection: Connection, side: Side, warm_up: Ask, asks: Sequence[Ask]) -> None:
    try:
        with side.open([ask.video for ask in (warm_up, *asks)]) as score:
            for _ in range(side.num_warm_ups):
                score(warm_up)
            answers = []
            for ask in asks:
                _read_through(ask.video)
                with measured() as meter:
                    scored = score(ask)
                answers.append(Answer(scored=scored, usage=meter.usage))
    except Exception:  # noqa: BLE001 - the other process raises it
        connection.send(traceback.format_exc())
    else:
        connection.send(answers)
    finally:
        connection.close()


def _read_through(path: Path) -> None:
    """Have the file in the page cache: disks are not what is compared."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def _reference(checkpoint: Path) -> Score:
    procedure = ReferenceProcedure(checkpoint)

    def score(ask: Ask) -> Scored:
        if ask.keeps_features:
            return procedure.score_again(ask.query)
        return procedure.score(
            ask.video, ask.query, num_frames=ask.num_frames, sample_fps=ask.sample_fps
        )

    return score


@contextmanager
def _in_process(engines: Path, seek: Seek) -> Iterator[Score]:
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
def _triton(engines: Path, media: Sequence[Path]) -> Iterator[Score]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = TritonServer(
            engines,
            http_port=0,
            grpc_port=0,
            metrics_port=0,
            allowed_roots=sorted({path.parent.resolve() for path in media}),
            cache_dir=folder / "cache",
            log_file=folder / "tritonserver.log",
        )
        with server, Client(f"grpc://{server.grpc_address}") as client:
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

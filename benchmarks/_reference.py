"""The reference's scoring of one video, re-enacted with the libraries that it uses.

decord reads the frames by their ordinals, transformers' image processor (Pillow and numpy) makes
pixels of each, and the model of `benchmarks.gpu.reference`, here in float32 on the CPU, encodes
them with every vision layer, the norm and the pooling head behind them, keeps every hidden state,
and scores one question a pass.

Where its script leaves a choice, this takes the faster one: as many threads for decord and PyTorch
as each takes by itself (all cores; `infer.py` gives decord 4), PyTorch's own choice of kernels, and
its fused attention: FlashAttention, which the reference requires, does not run on a CPU. Threads
between operators have nothing to do in a model whose operators follow one another. Where decord
fails with several threads, as 0.6.0 does when it seeks in VP9, its script would decode the whole
file with PyAV; this gives decord one thread, which reads such a file.

Source: NVlabs/VideoITG fab8b54, `lmms_eval/models/videoitg.py`, whose sampling rule ("eval") and
calls these are.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks._report import read_through
from benchmarks._server import FIRST_REQUESTS, server_of
from benchmarks._usage import Usage, measured
from benchmarks.gpu.reference import Reference
from benchmarks.gpu.size import Size
from groundserve import Client, ScoreOptions, ScoreResult
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.families.videoitg.sampling import sample_frames
from groundserve.options import Seek
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """One answer of either side."""

    frame_indices: NDArray[np.int64]
    """(T,)."""
    frame_logits: NDArray[np.float32]
    """(T,)."""
    timing_ms: dict[str, float]
    """By stage."""
    usage: Usage = field(default_factory=Usage)
    """What the whole question took, child processes included."""


class ReferenceProcedure:
    """A loaded checkpoint."""

    def __init__(self, checkpoint_dir: Path) -> None:
        """Read the weights, in float32."""
        import decord
        from transformers import SiglipImageProcessorPil

        self._decord = decord
        checkpoint = Checkpoint.open(checkpoint_dir)
        side = checkpoint.vision_config.image_size
        # The settings of the tower's published preprocessor_config.json.
        self._processor = SiglipImageProcessorPil(
            size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3
        )
        tokenizer, pad_token_id = checkpoint.load_tokenizer()
        self._tokenizer = QueryTokenizer(tokenizer, pad_token_id=pad_token_id)
        self._model = Reference(
            Size.of(checkpoint, num_frames=1, num_text_tokens=1),
            checkpoint.load_vision(),
            checkpoint.load_grounding(),
            dtype=torch.float32,
            device="cpu",
        )

    def score(self, video: Path, query: str, *, num_frames: int, sample_fps: float) -> Answer:
        """Decode, encode and ground, as its script does for each question."""
        timing_ms: dict[str, float] = {}
        with torch.inference_mode():
            with _lap(timing_ms, "decode"):
                indices, frames = self._decode(video, num_frames, sample_fps)
            with _lap(timing_ms, "preprocess"):
                images = [Image.fromarray(frame) for frame in frames]
                # (T, 3, S, S), normalised
                pixel_values = self._processor.preprocess(images, return_tensors="pt")
            with _lap(timing_ms, "encode"):
                features = self._model.encode(pixel_values["pixel_values"])
            with _lap(timing_ms, "ground"):
                logits = self._model.ground(features, self._tokenizer.text_ids(query))
                # It sorts the scores; the order is made of them elsewhere here.
                torch.sort(torch.sigmoid(logits), descending=True)
        return Answer(
            frame_indices=np.array(indices, np.int64),
            frame_logits=logits.numpy(),
            timing_ms=timing_ms,
        )

    def _decode(
        self, video: Path, num_frames: int, sample_fps: float
    ) -> tuple[list[int], NDArray[np.uint8]]:
        reader = self._decord.VideoReader(str(video), ctx=self._decord.cpu(0))
        indices = sample_frames(
            len(reader),
            reader.get_avg_fps(),
            sampling="eval",
            sample_fps=sample_fps,
            num_frames=num_frames,
        ).tolist()
        try:
            frames: NDArray[np.uint8] = reader.get_batch(indices).asnumpy()
        except self._decord.DECORDError:
            reader = self._decord.VideoReader(str(video), ctx=self._decord.cpu(0), num_threads=1)
            frames = reader.get_batch(indices).asnumpy()
        return indices, frames


@contextmanager
def _lap(timing_ms: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timing_ms[name] = (time.perf_counter() - started) * 1000


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


Score = Callable[[Ask], Answer]


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
            with measured() as usage:
                answer = score(ask)
            answers.append(replace(answer, usage=usage))
    return answers


@contextmanager
def _reference(name: SideName, checkpoint: Path, asks: Sequence[Ask]) -> Iterator[Score]:
    procedure = ReferenceProcedure(checkpoint)
    yield lambda ask: procedure.score(
        ask.video, ask.query, num_frames=ask.num_frames, sample_fps=ask.sample_fps
    )


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
        yield lambda ask: _answer_of(pipeline.score(ask.video, ask.query, _options(ask, seek)))


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
        yield lambda ask: _answer_of(
            client.score(
                queries=ask.query,
                options=_options(ask, "exact"),
                video_uri=ask.video.resolve().as_uri(),
            )
        )


def _options(ask: Ask, seek: Seek) -> ScoreOptions:
    return ScoreOptions(num_frames=ask.num_frames, sample_fps=ask.sample_fps, seek=seek)


def _answer_of(result: ScoreResult) -> Answer:
    return Answer(
        frame_indices=result.frame_indices,
        frame_logits=result.queries[0].frame_logits,
        timing_ms=dict(result.timing_ms),
    )

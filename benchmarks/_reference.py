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

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.gpu.reference import Reference
from benchmarks.gpu.size import Size
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.families.videoitg.sampling import sample_frames


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One answer of either side."""

    frame_indices: NDArray[np.int64]
    """(T,)."""
    frame_logits: NDArray[np.float32]
    """(T,)."""
    timing_ms: dict[str, float]
    """By stage."""


class ReferenceProcedure:
    """A loaded checkpoint."""

    def __init__(self, checkpoint_dir: Path) -> None:
        """Read the weights, in float32.

        Raises:
            ImportError: decord is not installed; benchmarks/requirements.txt names it.
        """
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
        self._kept: tuple[list[int], Tensor] | None = None

    def score(self, video: Path, query: str, *, num_frames: int, sample_fps: float) -> Scored:
        """Decode, encode and ground, as its script does for each question."""
        laps = _Laps()
        with torch.inference_mode():
            indices, frames = self._decode(video, num_frames, sample_fps)
            laps.end("decode")
            pixel_values = self._preprocess(frames)
            laps.end("preprocess")
            features = self._model.encode(pixel_values)
            laps.end("encode")
        self._kept = (indices, features)
        return self._ground(query, laps)

    def score_again(self, query: str) -> Scored:
        """Ground another question on the features of the last video, which its script throws away.

        Raises:
            ValueError: No video has been scored yet.
        """
        return self._ground(query, _Laps())

    def _ground(self, query: str, laps: _Laps) -> Scored:
        if self._kept is None:
            raise ValueError("score a video first: there are no features")
        indices, features = self._kept
        with torch.inference_mode():
            logits = self._model.ground(features, self._tokenizer.text_ids(query))
            # It sorts the scores; the order is made of them elsewhere here.
            torch.sort(torch.sigmoid(logits), descending=True)
        laps.end("ground")
        return Scored(
            frame_indices=np.array(indices, np.int64),
            frame_logits=logits.numpy(),
            timing_ms=laps.timing_ms,
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

    def _preprocess(self, frames: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) -> (T, 3, S, S), normalised."""
        images = [Image.fromarray(frame) for frame in frames]
        pixel_values: Tensor = self._processor.preprocess(images, return_tensors="pt")[
            "pixel_values"
        ]
        return pixel_values


class _Laps:
    """Milliseconds of one stage after the other."""

    def __init__(self) -> None:
        self.timing_ms: dict[str, float] = {}
        self._since = time.perf_counter()

    def end(self, name: str) -> None:
        now = time.perf_counter()
        self.timing_ms[name], self._since = (now - self._since) * 1000, now

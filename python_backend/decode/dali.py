"""Decoding with DALI: NVDEC on a GPU; the same pipeline on a CPU, for fewer codecs.

One batch is the segments of one chunk, or as many of them as there is memory set aside for: each is
decoded from its start, so late frames cost no more than early ones, and several decode side by
side.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundserve import extras
from groundserve.errors import EngineMismatchError, MissingExtraError
from groundserve.limits import Limits
from groundserve.media import Segments
from groundserve.media.outputs import ResizeRule
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.gpu import current_gpu_arch
from python_backend.arrays import Array, concatenate
from python_backend.decode.base import DecodedFrames, FrameDecoder
from python_backend.decode.memory import MAX_BATCH_SEGMENTS, RESIZE_FRAMES, split, why_too_large
from python_backend.decode.nvdec import why_not_on_cpu, why_not_on_gpu

_UNWRITTEN = (201, 7, 93)
"""RGB of memory that nothing was decoded to, see `DaliDecoder._decode`: no color of a border."""
_NOT_A_FRAME = np.iinfo(np.int32).max
"""An ordinal past every video's end, which DALI answers with a frame of `_UNWRITTEN`."""


class _NotDecodedError(Exception):
    """DALI did not decode a chunk; the message says so in a few words of ours."""


class DaliDecoder:
    """Decodes what DALI can and hands the rest to another decoder, saying so."""

    def __init__(
        self,
        *,
        image_size: int | None,
        resize: ResizeRule = "square",
        device: Literal["cpu", "mixed"],
        num_threads: int,
        fallback: FrameDecoder,
        max_frame_pixels: int = Limits.max_frame_pixels,
    ) -> None:
        """Build the pipeline, unless the frames are not to be as DALI makes them.

        Args:
            image_size: Side S of the frames that come out; None leaves them as decoded.
            resize: How they come to it. DALI has a filter near "square"; with any other rule, and
                as decoded, all videos are left to `fallback`.
            device: "mixed" decodes with NVDEC and leaves frames on the GPU, as torch tensors; "cpu"
                is for VP8, VP9 and Motion JPEG, and gives numpy.
            num_threads: Segments that are decoded side by side.
            fallback: Decodes what DALI cannot.
            max_frame_pixels: Larger frames never reach DALI.
        """
        # In two steps: looking for a submodule imports its parent and raises where there is none.
        if not importlib.util.find_spec("nvidia") or not importlib.util.find_spec("nvidia.dali"):
            raise MissingExtraError("dali", "nvidia.dali")
        self._image_size = image_size
        self._resize = resize
        self._device = device
        self._num_threads = num_threads
        self._fallback = fallback
        self._max_frame_pixels = max_frame_pixels
        self._gpu_arch = _require_gpu() if device == "mixed" else None
        # One pipeline, whose buffers hold one run's frames at a time.
        self._lock = threading.Lock()
        is_dalis = image_size is not None and resize == "square"
        self._pipeline: Any = self._build() if is_dalis else None

    def decode(
        self, segments: Segments, *, shown: NDArray[np.bool_] | None = None, deadline: Deadline
    ) -> DecodedFrames:
        """Implement `FrameDecoder.decode` for one stream, which shows all targets.

        What DALI fails on is for the other decoder to judge: damage is an error there too, while a
        stream that DALI or this GPU cannot decode costs time and not the request. One call runs at
        a time, and what DALI has begun when time runs out it ends first.
        """
        assert shown is None or (shown.shape[1] == 1 and shown.all()), "PyAV decodes for several"
        reason = self._why_not(segments)
        if reason is None:
            try:
                with self._turn(deadline):
                    frames = self._decode(segments, deadline)
                upright = _rotate(frames, segments.stream.quarter_turns)
                return DecodedFrames((upright,), "dali")
            except _NotDecodedError as error:
                reason = str(error)
        decoded = self._fallback.decode(segments, deadline=deadline)
        return DecodedFrames(decoded.streams, f"{decoded.decoder} ({reason})")

    def _why_not(self, segments: Segments) -> str | None:
        if self._image_size is None:
            return "DALI leaves no frames as decoded"
        if self._pipeline is None:
            return f"DALI does not resize by the rule {self._resize}"
        if segments.num_segments > MAX_BATCH_SEGMENTS:
            return f"{segments.num_segments} segments are more than {MAX_BATCH_SEGMENTS}"
        stream = segments.stream
        if stream.width * stream.height > self._max_frame_pixels:
            # The other decoder refuses them, in our words, where they are what they claim to be.
            return f"frames of {stream.width} x {stream.height} are too large"
        if self._gpu_arch is None:
            reason = why_not_on_cpu(stream)
        else:
            reason = why_not_on_gpu(stream, self._gpu_arch)
        return reason or why_too_large(segments)

    @contextmanager
    def _turn(self, deadline: Deadline) -> Iterator[None]:
        # A loop: who waited a hair too short must neither go on nor release another's lock.
        while not self._lock.acquire(timeout=deadline.wait_seconds()):
            pass
        try:
            yield
        finally:
            self._lock.release()

    def _decode(self, segments: Segments, deadline: Deadline) -> Array:
        files = [np.frombuffer(file, np.uint8) for file, _ in segments]
        ordinals = [local_frames for _, local_frames in segments]
        parts: list[Array] = []
        num_written = 0
        for part in split(segments):
            deadline.check()
            # A decoder that runs out of frames, or of rows, leaves the rest of its output as it
            # was: another request's pixels. So that memory is filled first, by the same request
            # for frames that do not exist: DALI answers those with the color, without decoding.
            self._run(files[part], [np.full_like(each, _NOT_A_FRAME) for each in ordinals[part]])
            deadline.check()
            frames = self._copy(self._run(files[part], ordinals[part]))
            # Waits for the copy of the frames too, which DALI's next run must not overtake.
            unwritten = _first_unwritten(frames)
            if unwritten is not None:
                raise _NotDecodedError(
                    f"DALI wrote no frame {num_written + unwritten} of {segments.num_frames}"
                )
            parts.append(frames)
            num_written += len(frames)
        deadline.check()
        return concatenate(parts)

    def _run(self, files: list[NDArray[np.uint8]], ordinals: list[NDArray[np.int32]]) -> Any:
        """Return DALI's list of (f, S, S, 3), valid until the next run."""
        try:
            (samples,) = self._pipeline.run(files=files, ordinals=ordinals)
        except RuntimeError:
            # Whatever state the error left behind goes with the pipeline.
            self._pipeline = self._build()
            raise _NotDecodedError("DALI failed on it") from None
        return samples

    def _copy(self, samples: Any) -> Array:
        """Join DALI's samples as (m, S, S, 3), where they lie, in memory that is not DALI's."""
        if self._device == "cpu":
            # (m, S, S, 3): samples (f, S, S, 3) of all segments, in order; concatenate copies.
            frames: Array = np.concatenate([samples.at(i) for i in range(len(samples))])
            return frames
        # DLPack shares DALI's memory; `cat` copies out of it, also where there is one sample.
        torch = extras.torch
        return torch.cat([torch.utils.dlpack.from_dlpack(samples[i]) for i in range(len(samples))])

    def _build(self) -> Any:
        # Most of DALI's names are made when it is imported, so no type checker knows them.
        dali: Any = importlib.import_module("nvidia.dali")
        fn, types = dali.fn, dali.types
        pipeline = dali.Pipeline(
            batch_size=MAX_BATCH_SEGMENTS,
            num_threads=self._num_threads,
            # A server uses one GPU, the first that is visible.
            device_id=None if self._device == "cpu" else 0,
            # 1 is what lets `run` take the inputs of its own batch.
            prefetch_queue_depth=1,
            # One buffer an operator, kept from run to run: see `_decode`.
            exec_dynamic=False,
            exec_pipelined=False,
            exec_async=False,
        )
        with pipeline:
            frames = fn.decoders.video(
                fn.external_source(name="files", dtype=types.UINT8, ndim=1),
                frames=fn.external_source(name="ordinals", dtype=types.INT32, ndim=1),
                device=self._device,
                # Not "none": an ordinal past the end gets the color too, and is found by it.
                pad_mode="constant",
                fill_value=list(_UNWRITTEN),
            )
            pipeline.set_outputs(
                fn.resize(
                    frames,
                    size=[self._image_size, self._image_size],
                    # Pillow's cubic, nearly: it widens the filter when it shrinks.
                    interp_type=types.INTERP_CUBIC,
                    antialias=True,
                    dtype=types.UINT8,
                    minibatch_size=RESIZE_FRAMES,
                )
            )
        pipeline.build()
        return pipeline


def _require_gpu() -> str:
    gpu_arch = current_gpu_arch()
    if gpu_arch is None:
        raise EngineMismatchError(
            "this engine directory decodes on an NVIDIA GPU, this machine has none; build one for "
            "it with: groundserve build --profile cpu"
        )
    return gpu_arch


def _first_unwritten(frames: Array) -> int | None:
    """Return the place of the first frame that DALI did not write to its end, None without one.

    It writes rows one after another; a video whose frames become smaller leaves the last ones.
    """
    last_rows: Any = frames[:, -1]  # (m, S, 3)
    # By channel, for numpy and torch alike; (m, S) each.
    is_color = [last_rows[..., channel] == value for channel, value in enumerate(_UNWRITTEN)]
    unwritten: list[bool] = (is_color[0] & is_color[1] & is_color[2]).all(1).tolist()
    return unwritten.index(True) if any(unwritten) else None


def _rotate(frames: Array, quarter_turns: int) -> Array:
    """Turn frames counterclockwise; DALI does not look at a file's rotation."""
    if quarter_turns == 0:
        return frames
    if isinstance(frames, np.ndarray):
        # rot90 gives a view, whose negative strides torch does not take.
        return np.ascontiguousarray(np.rot90(frames, quarter_turns, axes=(1, 2)))
    return frames.rot90(quarter_turns, dims=(1, 2)).contiguous()

"""The Triton models that serve video scoring, in Triton's own words.

T sampled frames, n frames of one chunk, S image side, g grid side, s patches a side, D_v feature
width, Q questions, K' selected frames. See design.md 3.2 for the contract between the models.

QUERY also goes to `video_features`, the first step: a bad question is refused before anything is
decoded, where `grounding` alone would find it after a whole decode. `video_features` may be called
without it, to fill the cache. On the wire it is optional everywhere and `grounding` requires it:
the server counts inputs, so a required one that is missing beside optional ones that are not gives
"unexpected deadlock".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from groundserve.manifest import ModelSpec

DataType = Literal["UINT8", "INT32", "INT64", "FP32", "FP64", "STRING"]

MAX_ENCODER_BATCH = 64
"""Frames in one execution of the vision encoder; no chunk may have more."""

_MAX_QUEUED_QUESTIONS = 10
"""Requests that may wait for `grounding`, most often the slowest step: few enough that one accepted
at twice the capacity takes less than twice as long as at 80 % of it (benchmarks/overload.py)."""

_NUM_DECODERS = 2
"""Videos decoded side by side: while one is decoded another is encoded."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output."""

    name: str
    """Name on the wire."""
    data_type: DataType
    """Triton's type name, without its prefix `TYPE_`."""
    dims: tuple[int, ...]
    """Shape without the batch dimension; -1 varies."""
    optional: bool = False
    """Whether a request may leave this input out."""


@dataclass(frozen=True, kw_only=True)
class QueuePolicySpec:
    """When a waiting request is refused as UNAVAILABLE."""

    max_queue_size: int
    """Requests that may wait; the next one is refused at once."""
    default_timeout_microseconds: int
    """Longest wait; a request's own timeout may only shorten it."""


@dataclass(frozen=True, kw_only=True)
class DynamicBatchingSpec:
    """The queue of a model, and how its requests are merged."""

    max_queue_delay_microseconds: int = 0
    """How long a request may wait for others to be merged with."""
    default_queue_policy: QueuePolicySpec | None = None
    """Admission control; an unbounded queue where None."""


@dataclass(frozen=True, kw_only=True)
class TritonModelSpec:
    """One model of the repository."""

    name: str
    """Name of the model and of its folder."""
    inputs: tuple[TensorSpec, ...]
    """Tensors it takes."""
    outputs: tuple[TensorSpec, ...]
    """Tensors it answers."""
    max_batch_size: int = 0
    """Largest batch; 0 where shapes have no batch dimension."""
    num_instances: int = 1
    """Processes that run it side by side."""
    dynamic_batching: DynamicBatchingSpec | None = None
    """Queue and merging; an unbounded queue and no merging where None."""
    steps: tuple[TritonModelSpec, ...] = ()
    """Models an ensemble runs; tensors of equal name are connected. Empty for a Python model."""

    @property
    def is_ensemble(self) -> bool:
        """Whether the server itself runs the model, without code of ours."""
        return bool(self.steps)


_VIDEO = TensorSpec("VIDEO", "UINT8", (-1,), optional=True)
_VIDEO_URI = TensorSpec("VIDEO_URI", "STRING", (1,), optional=True)
_OPTIONS = TensorSpec("OPTIONS", "STRING", (1,), optional=True)
_QUERY = TensorSpec("QUERY", "STRING", (-1,), optional=True)
_FRAME_INDICES = TensorSpec("FRAME_INDICES", "INT64", (-1,))  # (T,)
_PTS_SECONDS = TensorSpec("PTS_SECONDS", "FP64", (-1,))  # (T,)
_FRAME_LOGITS = TensorSpec("FRAME_LOGITS", "FP32", (-1, -1))  # (Q, T)
_FRAME_SCORES = TensorSpec("FRAME_SCORES", "FP32", (-1, -1))  # (Q, T)
_SELECTED_FRAMES = TensorSpec("SELECTED_FRAMES", "INT64", (-1, -1))  # (Q, K')
_STAGE_INFO = TensorSpec("STAGE_INFO", "STRING", (1,))
_STAGE_INFO_2 = TensorSpec("STAGE_INFO_2", "STRING", (1,))
_INFO = TensorSpec("INFO", "STRING", (1,))


def python_model_specs(model: ModelSpec) -> list[TritonModelSpec]:
    """Return the models of a profile whose stages are all Python-backend models on the CPU."""
    video_features = _video_features(model)
    grounding = _grounding(model)
    frame_selector = _frame_selector()
    return [
        _videoitg(video_features, grounding, frame_selector),
        video_features,
        _video_decode(model),
        _vision_encoder(model),
        grounding,
        frame_selector,
    ]


def _videoitg(*steps: TritonModelSpec) -> TritonModelSpec:
    return TritonModelSpec(
        name="videoitg",
        inputs=(_VIDEO, _VIDEO_URI, _QUERY, _OPTIONS),
        outputs=(
            _FRAME_INDICES,
            _PTS_SECONDS,
            _FRAME_LOGITS,
            _FRAME_SCORES,
            _SELECTED_FRAMES,
            _INFO,
        ),
        steps=steps,
    )


def _video_features(model: ModelSpec) -> TritonModelSpec:
    return TritonModelSpec(
        name="video_features",
        inputs=(_VIDEO, _VIDEO_URI, _QUERY, _OPTIONS),
        outputs=(
            TensorSpec("FEATURES", "FP32", (-1, -1, model.vision_hidden_size)),  # (T, g*g, D_v)
            _FRAME_INDICES,
            _PTS_SECONDS,
            _STAGE_INFO,
        ),
        # An instance serves one request at a time. Twice the decoders: while as many videos as can
        # be decoded at once are, a question about a cached one still finds an instance.
        num_instances=2 * _NUM_DECODERS,
        dynamic_batching=DynamicBatchingSpec(
            default_queue_policy=QueuePolicySpec(
                max_queue_size=16, default_timeout_microseconds=60_000_000
            )
        ),
    )


def _video_decode(model: ModelSpec) -> TritonModelSpec:
    size = model.image_size
    return TritonModelSpec(
        name="video_decode",
        inputs=(
            TensorSpec("SEGMENTS", "UINT8", (-1,)),
            TensorSpec("SEGMENT_OFFSETS", "INT64", (-1,)),
            TensorSpec("LOCAL_FRAMES", "INT32", (-1,)),
            TensorSpec("LOCAL_OFFSETS", "INT64", (-1,)),
        ),
        outputs=(TensorSpec("PIXELS", "UINT8", (-1, size, size, 3)),),  # (n, S, S, 3)
        num_instances=_NUM_DECODERS,
    )


def _vision_encoder(model: ModelSpec) -> TritonModelSpec:
    size = model.image_size
    return TritonModelSpec(
        name="vision_encoder",
        inputs=(
            TensorSpec("PIXELS", "UINT8", (size, size, 3)),  # (n, S, S, 3)
            TensorSpec("POOL", "FP32", (-1, model.side)),  # (n, g, s)
        ),
        outputs=(
            TensorSpec("FEATURES", "FP32", (-1, model.vision_hidden_size)),  # (n, g*g, D_v)
        ),
        max_batch_size=MAX_ENCODER_BATCH,
        dynamic_batching=DynamicBatchingSpec(max_queue_delay_microseconds=2_000),
    )


def _grounding(model: ModelSpec) -> TritonModelSpec:
    return TritonModelSpec(
        name="grounding",
        inputs=(
            TensorSpec("FEATURES", "FP32", (-1, -1, model.vision_hidden_size)),  # (T, g*g, D_v)
            _QUERY,
            _STAGE_INFO,
        ),
        outputs=(_FRAME_LOGITS, _STAGE_INFO_2),
        dynamic_batching=DynamicBatchingSpec(
            default_queue_policy=QueuePolicySpec(
                max_queue_size=_MAX_QUEUED_QUESTIONS, default_timeout_microseconds=60_000_000
            )
        ),
    )


def _frame_selector() -> TritonModelSpec:
    return TritonModelSpec(
        name="frame_selector",
        inputs=(_FRAME_LOGITS, _FRAME_INDICES, _PTS_SECONDS, _OPTIONS, _STAGE_INFO_2),
        outputs=(_FRAME_SCORES, _SELECTED_FRAMES, _INFO),
    )

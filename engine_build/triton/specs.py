"""The Triton models that serve video scoring, in Triton's own words.

T sampled frames, n frames of one chunk, S image side, g grid side, s patches a side, D_v feature
width, Q questions, K' selected frames. docs/architecture.md follows a request through the models.

QUERY also goes to `video_features`, the first step: a bad question is refused before anything is
decoded, where `grounding` alone would find it after a whole decode. `video_features` may be called
without it, to fill the cache. On the wire it is optional everywhere and `grounding` requires it:
the server counts inputs, so a required one that is missing beside optional ones that are not gives
"unexpected deadlock".

On a GPU the frames and features of a chunk stay in its memory from `video_decode` to `grounding`:
every Python model they pass through takes its inputs where they lie. All instances use GPU 0 of
the server's process: a machine with several GPUs runs one server a GPU, which keeps tensors from
crossing between two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.grid import grid_side
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.limits import Limits
from groundserve.manifest import CHUNK_FRAMES
from groundserve.options import ScoreOptions
from groundserve.profiles import Device, Precision, Profile, ProfileName, get_profile

DataType = Literal["UINT8", "INT32", "INT64", "FP16", "FP32", "FP64", "STRING"]

_MAX_WAITING = 16
"""Requests that may wait in the server, wherever, before `admission` refuses the next: so many that
16 clients, each with one request at a time, are never refused. What a request accepted past the
capacity waits grows with it (benchmarks/overload.py)."""

_MAX_QUEUED_VIDEOS = 64
"""Requests that Triton lets wait for `video_features`. Only those get there whom `admission` did
not see: callers of that model itself, and the part of a burst of `Client`s that is still being
uploaded when the next one asks. Triton counts nobody whom a full queue refuses."""

_QUEUE_TIMEOUT_MICROSECONDS = 60_000_000
"""Longest wait before a video is touched."""

_NUM_DECODERS = 2
"""Videos decoded side by side: while one is decoded another is encoded."""

_LIGHT_PIXELS = 10**9
"""What FFmpeg decodes, and Pillow resizes, in some 3 s of one core: 480 frames of 1080p."""
_LIGHT_NVDEC_PIXELS = 20 * 10**9
"""The same where NVDEC decodes: 10 s at 1,000 frames of 1080p a second. Not measured yet."""

PLAN_NAME = "model.plan"
"""File of the vision encoder's TensorRT plan in the model's version folder."""


@dataclass(frozen=True, kw_only=True)
class RepositoryLayout:
    """What decides which models there are and where they run, besides the checkpoint."""

    profile: ProfileName
    """Name of the profile."""
    device: Device
    """Where encoder and grounder run."""
    precision: Precision
    """Arithmetic of the engines; features are FP16 on the wire where it has 16 bits."""
    tensorrt_library: Literal["tensorrt", "tensorrt_rtx"] | None
    """Library of the profile's TensorRT engines, None where it has none. Triton's own backend opens
    plans of `tensorrt`; a Python model opens those of `tensorrt_rtx`, which have another format."""
    num_nvdec: int = 1
    """Hardware decoders of the GPU (NVDEC engines); only the decoder `dali` uses them."""

    def __post_init__(self) -> None:
        self.stages.choose(self.device, self.precision)
        has_tensorrt = "tensorrt" in self.stages.engines
        if has_tensorrt != (self.tensorrt_library is not None):
            wanted = "tensorrt or tensorrt_rtx" if has_tensorrt else "None"
            raise InvalidRequestError(
                f"tensorrt_library must be {wanted} with the profile {self.profile}, "
                f"got {self.tensorrt_library}"
            )
        if self.num_nvdec < 1:
            raise InvalidRequestError(f"num_nvdec must be >= 1, got {self.num_nvdec}")

    @property
    def stages(self) -> Profile:
        """The implementations that the profile names."""
        return get_profile(self.profile)

    @property
    def features_type(self) -> DataType:
        """Type of the pooled features: FP16 also after bf16 engines, for numpy has no bf16."""
        return "FP32" if self.precision == "fp32" else "FP16"

    @property
    def uses_nvdec(self) -> bool:
        """Whether frames are decoded by the GPU."""
        return self.stages.decoder == "dali"

    @property
    def uses_tensorrt_backend(self) -> bool:
        """Whether the server itself runs the vision encoder."""
        return self.stages.encoder == "tensorrt" and self.tensorrt_library == "tensorrt"

    @property
    def num_decoders(self) -> int:
        """Chunks decoded side by side, each by a process of its own.

        With one NVDEC a second process has nothing to decode on while the first does, and it costs
        a CUDA context.
        """
        return min(_NUM_DECODERS, self.num_nvdec) if self.uses_nvdec else _NUM_DECODERS

    @property
    def light_pixels(self) -> int:
        """Pixels that a video decodes to at most without being costly to the others.

        See `python_backend.fair_share`.
        """
        return _LIGHT_NVDEC_PIXELS if self.uses_nvdec else _LIGHT_PIXELS

    @property
    def num_decoder_threads(self) -> int:
        """Segments of one chunk that DALI decodes side by side.

        One thread drives one NVDEC session. As many as there are NVDECs, so that a single video can
        use them all; at least two, so that one can be parsed while another is decoded.
        """
        return max(2, self.num_nvdec)


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
    """How long a request may wait for others to be merged with. There are no preferred sizes: an
    engine has one optimisation profile, so a batch of any size is as good as its size."""
    default_queue_policy: QueuePolicySpec | None = None
    """Admission control; an unbounded queue where None."""


@dataclass(frozen=True, kw_only=True)
class WarmupSpec:
    """A batch of zeros that is run before the model counts as loaded."""

    batch_size: int
    """Size of the batch."""
    dims: dict[str, tuple[int, ...]]
    """Shape of each input without the batch dimension."""


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
    backend: Literal["python", "tensorrt"] = "python"
    """What runs it; an ensemble has none."""
    device: Device = "cpu"
    """Where its instances run and, for a Python model, whether its inputs may lie on the GPU."""
    num_instances: int = 1
    """Instances side by side; each of a Python model is a process."""
    dynamic_batching: DynamicBatchingSpec | None = None
    """Queue and merging; an unbounded queue and no merging where None."""
    parameters: dict[str, str] = field(default_factory=dict)
    """What the model's code is told."""
    warmup: WarmupSpec | None = None
    """Run by the server before the model is ready. Python models warm themselves up."""
    steps: tuple[TritonModelSpec, ...] = ()
    """Models an ensemble runs; tensors of equal name are connected. Empty for a Python model."""

    @property
    def is_ensemble(self) -> bool:
        """Whether the server itself runs the model, without code of ours."""
        return bool(self.steps)


_ADMITTED = TensorSpec("ADMITTED", "UINT8", (1,))  # says nothing; the next step waits for it
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
_STREAM = TensorSpec("STREAM", "STRING", (1,))  # JSON: what is in the segments
_DECODER = TensorSpec("DECODER", "STRING", (1,))  # what decoded them


def model_specs(layout: RepositoryLayout, model: VideoITGSpec) -> list[TritonModelSpec]:
    """Return the models of an engine directory."""
    features = _features(layout, model)
    admission = _admission()
    video_features = _video_features(layout, features)
    grounding = _grounding(layout, features)
    frame_selector = _frame_selector()
    return [
        _videoitg(admission, video_features, grounding, frame_selector),
        admission,
        video_features,
        _video_decode(layout, model),
        _vision_encoder(layout, model),
        grounding,
        frame_selector,
    ]


def _features(layout: RepositoryLayout, model: VideoITGSpec) -> TensorSpec:
    dims = (-1, -1, model.vision_hidden_size)  # (T, g*g, D_v)
    return TensorSpec("FEATURES", layout.features_type, dims)


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


def _admission() -> TritonModelSpec:
    return TritonModelSpec(
        name="admission",
        # A step needs an input; this one is small, where a video would be copied.
        inputs=(_OPTIONS,),
        outputs=(_ADMITTED,),
        parameters={"max_waiting": str(_MAX_WAITING)},
    )


def _video_features(layout: RepositoryLayout, features: TensorSpec) -> TritonModelSpec:
    return TritonModelSpec(
        name="video_features",
        inputs=(replace(_ADMITTED, optional=True), _VIDEO, _VIDEO_URI, _QUERY, _OPTIONS),
        outputs=(features, _FRAME_INDICES, _PTS_SECONDS, _STAGE_INFO),
        # It computes nothing on the GPU; it holds the chunks' tensors on their way.
        device=layout.device,
        # An instance serves one request at a time. Twice the decoders: while as many videos as can
        # be decoded at once are, a question about a cached one still finds an instance.
        num_instances=2 * layout.num_decoders,
        parameters={
            "light_pixels": str(layout.light_pixels),
            "num_decoders": str(layout.num_decoders),
        },
        dynamic_batching=DynamicBatchingSpec(
            default_queue_policy=QueuePolicySpec(
                max_queue_size=_MAX_QUEUED_VIDEOS,
                default_timeout_microseconds=_QUEUE_TIMEOUT_MICROSECONDS,
            )
        ),
    )


def _video_decode(layout: RepositoryLayout, model: VideoITGSpec) -> TritonModelSpec:
    size = model.image_size
    parameters = {"num_threads": str(layout.num_decoder_threads)} if layout.uses_nvdec else {}
    return TritonModelSpec(
        name="video_decode",
        inputs=(
            TensorSpec("SEGMENTS", "UINT8", (-1,), optional=True),
            TensorSpec("SEGMENTS_MEMORY", "STRING", (1,), optional=True),  # where they lie
            TensorSpec("SEGMENT_OFFSETS", "INT64", (-1,)),
            TensorSpec("LOCAL_FRAMES", "INT32", (-1,)),
            TensorSpec("LOCAL_OFFSETS", "INT64", (-1,)),
            _STREAM,
        ),
        outputs=(
            TensorSpec("PIXELS", "UINT8", (-1, size, size, 3)),  # (n, S, S, 3)
            _DECODER,
        ),
        device="cuda" if layout.uses_nvdec else "cpu",
        num_instances=layout.num_decoders,
        parameters=parameters,
    )


def _vision_encoder(layout: RepositoryLayout, model: VideoITGSpec) -> TritonModelSpec:
    size = model.image_size
    features_dims = (-1, model.vision_hidden_size)
    return TritonModelSpec(
        name="vision_encoder",
        inputs=(
            TensorSpec("PIXELS", "UINT8", (size, size, 3)),  # (n, S, S, 3)
            TensorSpec("POOL", "FP32", (-1, model.side)),  # (n, g, s)
        ),
        outputs=(
            TensorSpec("FEATURES", layout.features_type, features_dims),  # (n, g*g, D_v)
        ),
        max_batch_size=CHUNK_FRAMES,
        # No CUDA graphs for a plan. A graph is captured for one batch size and one g, and g follows
        # from each request's T, so most chunks would miss it; with a lower bound on the shape it
        # would run on padding nobody wrote. The gain is small as well: a batch of 64 computes for
        # far longer than its launches take.
        backend="tensorrt" if layout.uses_tensorrt_backend else "python",
        device=layout.device,
        dynamic_batching=DynamicBatchingSpec(max_queue_delay_microseconds=2_000),
        warmup=_encoder_warmup(model) if layout.uses_tensorrt_backend else None,
    )


def _encoder_warmup(model: VideoITGSpec) -> WarmupSpec:
    """A full chunk of a video with the default number of frames: g = 5 with the released model."""
    num_frames = ScoreOptions().most_frames(
        vision_token_num=model.vision_token_num, limits=Limits()
    )
    grid = grid_side(num_frames, vision_token_num=model.vision_token_num, side=model.side)
    return WarmupSpec(
        batch_size=CHUNK_FRAMES,
        dims={
            "PIXELS": (model.image_size, model.image_size, 3),
            "POOL": (grid, model.side),
        },
    )


def _grounding(layout: RepositoryLayout, features: TensorSpec) -> TritonModelSpec:
    return TritonModelSpec(
        name="grounding",
        inputs=(features, _QUERY, _STAGE_INFO),
        outputs=(_FRAME_LOGITS, _STAGE_INFO_2),
        # One instance: a second would hold the decoder's weights again, and one question fills the
        # device.
        device=layout.device,
        # No queue policy, so that no video is decoded in vain, and because a queue with one hands a
        # waiting request on when the next arrives or half a second has passed, not when the
        # instance becomes free (triton-inference-server/core 73aad7c, src/scheduler_utils.cc,
        # `PriorityQueue`, and src/dynamic_batch_scheduler.cc, `WaitForPayloadSlotAvailable`). The
        # door bounds who waits, and the request's deadline is looked at when its turn comes.
    )


def _frame_selector() -> TritonModelSpec:
    return TritonModelSpec(
        name="frame_selector",
        inputs=(_FRAME_LOGITS, _FRAME_INDICES, _PTS_SECONDS, _OPTIONS, _STAGE_INFO_2),
        outputs=(_FRAME_SCORES, _SELECTED_FRAMES, _INFO),
    )

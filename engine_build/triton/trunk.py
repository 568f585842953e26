"""The models that every family has: what callers see, and from a video to FEATURES.

T sampled frames, n frames of one chunk, m targets of one call, s streams, S image side, H and W
sides as decoded, U units, P tokens of a unit, D feature width.

On the wire QUERY is optional and read as required: the server counts inputs, so a required one that
is missing beside optional ones that are not gives "unexpected deadlock".

On a GPU the frames and features of a chunk stay in its memory from `video_decode` to the head:
every Python model they pass through takes its inputs where they lie. All instances use GPU 0 of
the server's process: a machine with several GPUs runs one server a GPU, which keeps tensors from
crossing between two.
"""

from __future__ import annotations

from dataclasses import replace

from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.model_spec import TensorSpec, TritonModelSpec, WarmupSpec
from groundserve.families.plans import VideoPlan
from groundserve.families.vision_inputs import VisionInputs

VIDEO = TensorSpec("VIDEO", "UINT8", (-1,), optional=True)
VIDEO_URI = TensorSpec("VIDEO_URI", "STRING", (1,), optional=True)
OPTIONS = TensorSpec("OPTIONS", "STRING", (1,), optional=True)
QUERY = TensorSpec("QUERY", "STRING", (-1,), optional=True)
INPUTS = (VIDEO, VIDEO_URI, QUERY, OPTIONS)
"""Of the public model, whatever its family."""
FRAME_INDICES = TensorSpec("FRAME_INDICES", "INT64", (-1,))  # (T,)
PTS_SECONDS = TensorSpec("PTS_SECONDS", "FP64", (-1,))  # (T,)
INFO = TensorSpec("INFO", "STRING", (1,))
_STREAM = TensorSpec("STREAM", "STRING", (1,))  # JSON: what is in the segments
_DECODER = TensorSpec("DECODER", "STRING", (1,))  # what decoded them

_MAX_RUNNING = 16
"""Requests that `front` works on at one time. Each has a thread and, while it is decoded and
encoded, some chunks in memory; the engines take their calls one after another."""

_MAX_WAITING = 16
"""Requests that wait in `front` before the next one is refused, so that 32 clients, each with one
request at a time, never are. What a request accepted past the capacity waits grows with it
(benchmarks/results/overload_cpu_2026-11-22.json)."""


def front_stream(front: TritonModelSpec) -> TritonModelSpec:
    """The same, which sends parts of the answers before the answer."""
    return replace(
        front,
        name="front_stream",
        outputs=(*front.outputs, TensorSpec("PART", "STRING", (1,))),  # JSON: query, text
        parameters={**front.parameters, "is_streamed": "true"},
        is_decoupled=True,
    )


def front(layout: RepositoryLayout, outputs: tuple[TensorSpec, ...]) -> TritonModelSpec:
    """A video and questions -> the answer, the head's outputs, by calls to all others."""
    return TritonModelSpec(
        name="front",
        inputs=INPUTS,
        outputs=outputs,
        # It computes nothing on the GPU; it holds the chunks' tensors on their way.
        device=layout.target.device,
        parameters={
            "light_pixels": str(layout.light_pixels),
            "max_running": str(_MAX_RUNNING),
            "max_waiting": str(_MAX_WAITING),
            "num_decoders": str(layout.num_decoders),
        },
    )


def video_decode(layout: RepositoryLayout, inputs: VisionInputs) -> TritonModelSpec:
    """Segments of a video -> frames in the sizes that the vision stage takes, or as decoded."""
    # (m, s): which streams show each target; a single one shows all.
    shown = (TensorSpec("SHOWN", "UINT8", (-1, len(inputs.streams))),)
    parameters = {"num_threads": str(layout.num_decoder_threads)} if layout.uses_nvdec else {}
    return TritonModelSpec(
        name="video_decode",
        inputs=(
            TensorSpec("SEGMENTS", "STRING", (1,)),  # where they lie
            TensorSpec("SEGMENT_OFFSETS", "INT64", (-1,)),
            TensorSpec("LOCAL_FRAMES", "INT32", (-1,)),
            TensorSpec("LOCAL_OFFSETS", "INT64", (-1,)),
            _STREAM,
            *(shown if len(inputs.streams) > 1 else ()),
        ),
        outputs=(
            # (n, S, S, 3) or (n, H, W, 3)
            *(TensorSpec(one.name, "UINT8", (-1, *one.frame_dims)) for one in inputs.streams),
            _DECODER,
        ),
        device="cuda" if layout.uses_nvdec else "cpu",
        num_instances=layout.num_decoders,
        parameters=parameters,
    )


def vision_encoder(
    layout: RepositoryLayout, inputs: VisionInputs, features: TensorSpec, usual: VideoPlan
) -> TritonModelSpec:
    """Units -> their features, of a whole video (U, P, D).

    Shapes of a usual video are run before the model is ready.
    """
    return TritonModelSpec(
        name="vision_encoder",
        inputs=(
            *(TensorSpec(one.name, "UINT8", one.unit_dims) for one in inputs.streams),
            *(TensorSpec(one.name, "FP32", one.dims) for one in inputs.plan_inputs),
        ),
        outputs=(replace(features, dims=features.dims[1:]),),
        max_batch_size=inputs.max_units,
        # No CUDA graphs for a plan. A graph is captured for one batch size and one shape of what
        # varies between requests, so most chunks would miss it; with a lower bound on the shape it
        # would run on padding nobody wrote. The gain is small as well: a batch of 64 computes for
        # far longer than its launches take.
        backend="tensorrt" if layout.uses_tensorrt_backend else "python",
        device=layout.target.device,
        # Frames as decoded are large and encoded few at a time: merged they would be copied, and
        # nothing gained.
        max_queue_delay_microseconds=None if inputs.are_as_decoded else 2_000,
        warmup=_warmup(inputs, usual) if layout.uses_tensorrt_backend else None,
    )


def _warmup(inputs: VisionInputs, usual: VideoPlan) -> WarmupSpec:
    """A chunk of a usual video."""
    return WarmupSpec(
        batch_size=inputs.chunk_units(usual.index.width, usual.index.height),
        dims=dict(
            zip(
                inputs.names,
                (
                    *inputs.unit_shapes(usual.index),
                    *(one.shape[1:] for one in inputs.of_plan(usual)),
                ),
                strict=True,
            )
        ),
    )

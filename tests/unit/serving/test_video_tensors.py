from __future__ import annotations

from types import SimpleNamespace

from engine_build.triton.__main__ import REFERENCE_MODEL
from groundserve.families.plans import FrameStream, PlanInput
from groundserve.families.videoitg import FAMILY
from groundserve.limits import MIB, Limits
from groundserve.serving.video_tensors import VideoTensors


def test_sizes_of_the_released_model():
    assert VideoTensors.of(FAMILY, REFERENCE_MODEL, Limits()) == VideoTensors(
        stream_names=frozenset({"PIXELS"}),
        image_size=384,
        chunk_bytes=64 * 384 * 384 * 3,
        plan_input_bytes=27 * 27 * 4,
        num_features=16_384 * 1152,
    )


def test_all_streams_of_a_family_count():
    family = SimpleNamespace(
        streams=lambda spec: (
            FrameStream(name="CLIPS", size=224, frames=tuple(range(8))),
            FrameStream(name="KEYS", size=336),
        ),
        plan_inputs=lambda spec: (
            PlanInput(name="A", dims=(-1, 3), max_dims=(5, 3)),
            PlanInput(name="B", dims=(7,), max_dims=(7,)),
        ),
    )
    spec = SimpleNamespace(max_feature_tokens=10, feature_width=6)
    assert VideoTensors.of(family, spec, Limits()) == VideoTensors(
        stream_names=frozenset({"CLIPS", "KEYS"}),
        image_size=336,
        chunk_bytes=64 * (224 * 224 * 3 + 336 * 336 * 3),
        plan_input_bytes=(5 * 3 + 7) * 4,
        num_features=60,
    )


def test_of_frames_as_decoded_the_largest_that_is_let_in_counts():
    family = SimpleNamespace(
        streams=lambda spec: (FrameStream(name="RAW", size=None),), plan_inputs=lambda spec: ()
    )
    spec = SimpleNamespace(max_feature_tokens=100, feature_width=32)
    tensors = VideoTensors.of(family, spec, Limits())
    assert (tensors.image_size, tensors.chunk_bytes) == (0, 128 * MIB)
    # One alone of more than a chunk takes.
    limits = Limits(max_frame_pixels=64 * MIB)
    assert VideoTensors.of(family, spec, limits).chunk_bytes == 3 * 64 * MIB

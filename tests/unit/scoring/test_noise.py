from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from groundserve.families.plans import FrameStream, PlanInput, VideoPlan
from groundserve.options import ScoreOptions
from groundserve.scoring.noise import NoiseRequest, usual_request

TOKENS_A_UNIT = 5


class Segments:
    """Every second frame, in segments of two: one stream of both, a larger one of the first."""

    head = "frames"

    def streams(self, spec):
        return (
            FrameStream(name="CLIPS", size=4, frames=(0, 1)),
            FrameStream(name="KEYS", size=6),
        )

    def plan_inputs(self, spec):
        return (PlanInput(name="SCALES", dims=(3,), max_dims=(3,)),)

    def plan(self, index, options, spec, limits=None):
        assert options == ScoreOptions(), "a family may refuse all others"
        frame_indices = np.arange(0, index.num_source_frames, 2)
        units = np.arange(len(frame_indices)).repeat(2).reshape(-1, 2)
        return VideoPlan(
            index=index,
            num_frames=index.num_source_frames,
            frame_indices=frame_indices,
            units=units,
            num_visual_tokens=len(units) * TOKENS_A_UNIT,
            inputs={"SCALES": np.arange(3, dtype=np.float32)},
        )


def test_noise_has_the_shapes_of_streams_and_plan_inputs():
    def make():
        return NoiseRequest.make(Segments(), None, vocab_size=10, num_frames=8, text_lengths=(3, 2))

    request = make()
    clips, keys, scales = request.inputs
    assert (clips.shape, clips.dtype) == ((4, 2, 4, 4, 3), np.uint8)
    assert (keys.shape, keys.dtype) == ((4, 6, 6, 3), np.uint8)
    assert scales.tolist() == [[0, 1, 2]]
    assert request.num_tokens == (4 * TOKENS_A_UNIT + 3, 4 * TOKENS_A_UNIT + 2)
    assert request.shape == "4 frames, 23 and 22 tokens in one pass"
    assert request.first().num_tokens == (23,)
    assert all(0 <= ids.min() <= ids.max() < 10 for ids in request.text_ids)
    again = make()
    for one, other in zip(request.inputs, again.inputs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("max_tokens", "num_units", "num_tokens"),
    [
        pytest.param(None, 32, 2000 + 1024, id="a_run_of_the_vision_stage"),
        pytest.param(41, 8, 41, id="as_many_as_leave_a_token_of_text"),
        pytest.param(40, 7, 40, id="none_is_left"),
    ],
)
def test_the_usual_request_fills_the_budget(max_tokens, num_units, num_tokens):
    spec = SimpleNamespace(max_feature_tokens=2000, max_tokens=max_tokens)
    request = usual_request(Segments(), spec, vocab_size=10)
    assert len(request.plan.units) == num_units
    assert request.num_tokens == (num_tokens,)

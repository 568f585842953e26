"""What makes the decoder's block of features, against recorded samplers and plain computations."""

import numpy as np
import pytest
import torch

from groundserve.families.vtgllm.checkpoint import resized
from groundserve.families.vtgllm.front import CrossSampler, SlotSampler
from python_backend.generate.torch import TorchFront
from tests.support.vtgllm_stages import FUNCTIONS, TENSORS, open_config

PREFIX = "functions.samplers."


def filled(module, kind):
    prefix = f"{PREFIX}{kind}."
    names = module.state_dict()
    module.load_state_dict({name: TENSORS[prefix + name] for name in names})
    return module


@torch.inference_mode()
@pytest.mark.parametrize(
    ("kind", "sampler"), [("slot", SlotSampler(16, 6)), ("cross", CrossSampler(16, 6))]
)
def test_samplers_are_the_recorded_ones(kind, sampler):
    sampled = filled(sampler, kind)(TENSORS[f"{PREFIX}x"][0])
    # Softmax and two products of some 40 terms of order 1, in float32.
    torch.testing.assert_close(sampled, TENSORS[f"{PREFIX}{kind}.out"][0], rtol=0, atol=1e-5)


def test_slots_of_large_vectors_are_the_recorded_ones():
    slots = open_config("interpolation").trained.front["sampler.slots"]
    sampler = SlotSampler(*slots.shape)
    sampler.load_state_dict({"slots": slots})
    vectors = TENSORS[f"{PREFIX}slot_large_input.x"][0]
    weights = torch.softmax(vectors.double() @ slots.double(), dim=0)
    exact = (vectors.double().T @ weights).T
    recorded = TENSORS[f"{PREFIX}slot_large_input.out"][0]
    # A logit is rounded by 2**-24 of the sum of its terms' sizes at most for each of D terms, which
    # moves its weight by as much of itself; twice, for the softmax's own and the mean's rounding.
    terms = vectors.abs().double() @ slots.abs().double()
    bound = 2 * len(slots) * 2.0**-24 * terms.max() * vectors.abs().max()
    assert (sampler(vectors).detach() - exact).abs().max() < bound
    assert (recorded - exact).abs().max() < bound


def test_in_16_bits_slots_and_seconds_keep_float32():
    opened = open_config("base")
    whole, half = (opened.load_front(dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert half.projection.weight.dtype == torch.bfloat16
    assert torch.equal(half.sampler.slots, whole.sampler.slots)
    features = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(5))
    # 6000, which was trained, is none of bfloat16's numbers; it would be 6016, which was not.
    seconds, rounded = (np.array([one], np.float32) for one in (6000, 6016))
    runner = TorchFront(half, torch.nn.Embedding(1, 64, dtype=torch.bfloat16))
    found = runner.embed_video(features.numpy(), [seconds])
    with torch.inference_mode():
        expected = whole(features, torch.from_numpy(seconds))
        other = whole(features, torch.from_numpy(rounded))
    assert found.dtype == torch.bfloat16
    # The projection alone is rounded: weights, inputs and the result, each by 2**-9 at most.
    size = whole.projection.weight.abs().sum(1).max() * 4 + 4
    assert (found - expected).abs().max() < 3 * 2.0**-9 * size
    assert (other - expected).abs().max() > 0.1


@pytest.mark.parametrize("vector", FUNCTIONS["frame_table_resize"], ids=lambda v: str(v["old"]))
def test_places_of_another_number_of_frames_are_the_nearest_ones(vector):
    table = torch.arange(vector["old"] * 2.0).reshape(-1, 2)
    found = resized(table, vector["new"])
    assert (found[:, 0] / 2).tolist() == vector["source_row"]

"""Tables of cos and sin: the reference's at every recorded position, and who is told which."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, Phi3Config

from groundserve.errors import UnsupportedError
from groundserve.families.rotary import RotaryTables
from tests.support.reference import REPOSITORY

GROUNDED = REPOSITORY / "tests/fixtures/grounded_videollm"
SWITCH = 4096


@pytest.fixture(scope="module")
def recorded():
    return json.loads((GROUNDED / "cases.json").read_text("utf-8"))["functions"]["rope"]


def config_of(base: str, kind):
    path = GROUNDED / "weight_path" / base / "language_model_seperated/config.json"
    return kind.from_dict(json.loads(path.read_text("utf-8")))


@pytest.fixture(scope="module")
def phi():
    return config_of("Phi-3.5-vision-instruct-seperated", Phi3Config)


@pytest.fixture(scope="module")
def llama():
    return config_of("llama3-llava-next-8b-seperated", LlamaConfig)


def at(rotary, positions, *, regime=0):
    """Return the first halves of cos and sin."""
    ids = torch.cat([rotary.position_ids(one, 1, regime=regime) for one in positions], dim=1)
    found = rotary(torch.zeros(1), ids)
    half = found[0].shape[-1] // 2
    assert all(torch.equal(one[..., :half], one[..., half:]) for one in found)
    return [one[0, :, :half].numpy() for one in found]


def check(found, record, keep):
    for one, name in zip(found, ("cos", "sin"), strict=True):
        # Seven significant digits are recorded; a float32 cos of a large angle is exact in it.
        np.testing.assert_allclose(one, np.array(record[name])[keep], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("regime", "name"), [(0, "phi_short"), (1, "phi_long")])
def test_each_regime_has_the_references_list_and_its_magnitude(phi, recorded, regime, name):
    positions = np.array(recorded["positions"])
    keep = positions < SWITCH if regime == 0 else positions >= 0
    found = at(RotaryTables.of(phi), positions[keep].tolist(), regime=regime)
    check(found, recorded[name], keep)


@pytest.mark.parametrize(
    ("angles", "name"), [("float32", "llama_fp32"), ("bfloat16", "llama_bf16_autocast_cpu")]
)
def test_angles_are_those_of_the_run_that_is_asked_for(llama, recorded, angles, name):
    positions = np.array(recorded["positions"])
    keep = positions < llama.max_position_embeddings
    found = at(RotaryTables.of(llama, angles=getattr(torch, angles)), positions[keep].tolist())
    check(found, recorded[name], keep)


def test_the_regime_follows_the_length_of_the_whole(phi, llama):
    rotary = RotaryTables.of(phi)
    assert [rotary.regime(length) for length in (1, SWITCH, SWITCH + 1, 9000)] == [0, 0, 1, 1]
    assert RotaryTables.of(llama).regime(10**6) == 0


def test_a_model_that_moves_to_another_dtype_leaves_frequencies_as_they_are(llama):
    rotary = RotaryTables.of(llama)
    ids = rotary.position_ids(2300, 8, regime=0)
    expected = [one.bfloat16() for one in rotary(torch.zeros(1), ids)]
    found = rotary.to(torch.bfloat16)(torch.zeros(1, dtype=torch.bfloat16), ids)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("first", [SWITCH - 3, SWITCH, 2 * 131_072 - 3])
def test_whoever_counts_on_past_the_switch_is_stopped(phi, first):
    """As a call of the model does that gives it no position ids."""
    ids = torch.arange(first, first + 5)[None]
    with pytest.raises(ValueError, match=f"with the switch 4096, got up to {first + 4}"):
        RotaryTables.of(phi)(torch.zeros(1), ids)


def test_another_way_to_rotate_is_refused(llama, phi):
    for config, changed, message in (
        (llama, {"rope_type": "linear", "factor": 2.0}, "default or longrope, got linear"),
        (llama, {"partial_rotary_factor": 0.5}, r"as a whole, got 0\.5 of each"),
        (phi, {"attention_factor": 1.5}, r"leave attention_factor to the lengths, got 1\.5"),
        (phi, {"long_factor": [0.0] * 8}, "long_factor must be numbers above 0"),
        (llama, {"rope_theta": -1.0}, r"rope_theta must be a number above 0, got -1\.0"),
    ):
        other = type(config).from_dict(config.to_dict())
        other.rope_parameters = {**config.rope_parameters, **changed}
        with pytest.raises(UnsupportedError, match=message):
            RotaryTables.of(other)

"""The front of a GPU engine with a decoder in PyTorch behind it equals the whole model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.decoder import read_embeddings, write_embeddings
from python_backend.ground.engine import EngineGrounder
from python_backend.ground.torch import TorchGrounder
from tests.support.reference import SET_1
from tests.support.rounding import in_float32


class TorchTokenScorer:
    """What an engine computes."""

    def __init__(self, model):
        self.model = model

    def score(self, inputs_embeds):
        states = self.model.decoder(
            inputs_embeds=inputs_embeds.unsqueeze(0),
            attention_mask={"full_attention": None},
            is_causal=False,
            use_cache=False,
        ).last_hidden_state
        return self.model.head(states[0]).squeeze(1)


@pytest.fixture(scope="module")
def model():
    return Checkpoint.open(SET_1 / "videoitg-tiny").load_grounding()


@pytest.fixture
def grounder(model, tmp_path):
    write_embeddings(model, tmp_path / "embeddings.safetensors")
    front = read_embeddings(tmp_path / "embeddings.safetensors", device="cpu")
    return EngineGrounder(front, TorchTokenScorer(model))


FEATURES = np.random.default_rng(0).standard_normal((6, 4, 48)).astype(np.float32)


def test_equals_the_whole_model(grounder, model):
    ids = np.arange(9)
    exact = copy.deepcopy(model).double()
    exact.decoder.config._attn_implementation = "eager"
    features = torch.from_numpy(FEATURES).double()
    expected, bound = in_float32(exact, features, torch.from_numpy(ids))
    for one in (grounder, TorchGrounder(model)):
        np.testing.assert_allclose(one.ground(FEATURES, ids), expected, rtol=0, atol=bound)

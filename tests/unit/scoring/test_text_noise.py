"""What the gate asks of a decoder: both regimes of one that has two."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from engine_build.decoder_export import export_decoder
from groundserve.families import get_text_family
from groundserve.families.modules import FrontModule
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.manifest import DECODER_GRAPH_NAME
from groundserve.scoring.text_noise import TextRequest
from groundserve.scoring.tolerances import TOLERANCES
from python_backend.generate import OnnxRuntimeDecoder, TorchDecoder, TorchFront
from tests.support.phi import VOCAB_SIZE, WIDTH, tiny_phi

FEATURE_WIDTH = 8
SWITCH = 200
"""Above all that is asked."""
BOUND = TOLERANCES["fp32"].logit_error


class Projector(FrontModule):
    """A linear layer, a row a unit."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURE_WIDTH, WIDTH)

    def forward(self, features):
        return self.linear(features.flatten(0, 1))


@pytest.fixture(scope="module")
def logits(tmp_path_factory):
    """Of PyTorch, and of engines with the model's tables and with a fault in those of one."""
    request = TextRequest.make(
        get_text_family("vtimellm"),
        VTimeLLMSpec(feature_width=FEATURE_WIDTH),
        vocab_size=VOCAB_SIZE,
        device="cpu",
    )
    assert max(request.num_tokens) < SWITCH
    features = np.random.default_rng(1).normal(size=(100, 1, FEATURE_WIDTH)).astype(np.float32)
    model = tiny_phi(switch=SWITCH)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        front = TorchFront(Projector().requires_grad_(False), model.get_input_embeddings())
    expected = request.generate(SimpleNamespace(front=front, decoder=TorchDecoder(model)), features)
    cos, sin = model.model.rotary_emb.tables()
    folder, found = tmp_path_factory.mktemp("phi"), {}
    faults = {"right": (0, 0), "short": (0, SWITCH), "long": (SWITCH, len(cos)), "no bias": (0, 0)}
    for name, (start, end) in faults.items():
        # That the graph has alone: rows of the tables that were moved by one, or no bias.
        if name == "no bias":
            model.lm_head.bias = None
        tables = [one.clone() for one in (cos, sin)]
        for one in tables:
            one[start:end] = one[start:end].roll(1, 0)
        model.model.rotary_emb.tables = lambda tables=tables: tuple(tables)
        export_decoder(model, folder / name, precision="fp32")
        decoder = OnnxRuntimeDecoder(folder / name / DECODER_GRAPH_NAME, num_threads=1)
        found[name] = request.generate(
            SimpleNamespace(front=front, decoder=decoder),
            features,
            forced=expected.argmax(-1),
        )
    return expected, found


def errors(logits, name) -> np.ndarray:
    """Of each step, the largest of both questions, as the gate has it."""
    expected, found = logits
    return np.abs(found[name] - expected).max((0, 2)) / np.abs(expected).max()


def test_right_tables_pass(logits):
    assert errors(logits, "right").max() < BOUND


def test_a_fault_in_the_short_regime_is_seen_in_all_steps_but_the_last(logits):
    assert (errors(logits, "short")[:-1] > BOUND).all()


def test_a_fault_in_the_long_regime_is_seen_in_the_last_step(logits):
    found = errors(logits, "long")
    assert found[:-1].max() < BOUND < found[-1]


def test_a_head_that_lost_its_bias_is_seen_in_all_steps(logits):
    assert (errors(logits, "no bias") > BOUND).all()

"""Decoders of two regimes, PyTorch's and ONNX Runtime's: long prompts, and answers that grow long.

Expected is one pass in float64 without a past, each position rotated as transformers rotates it in
a pass of the sequence's length when that position is computed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from engine_build.decoder_export import export_decoder
from groundserve.engines.manifest import DECODER_GRAPH_NAME
from python_backend.generate import OnnxRuntimeDecoder
from python_backend.generate.torch import TorchDecoder
from tests.support.phi import MAX_POSITIONS, SWITCH, WIDTH, tiny_phi
from tests.support.rounding import in_float32

ENGINES = ("torch", "onnx")
NUM_POSITIONS = 96
# Lengths of passes -> how ours are cut, with the regime of each.
RUNS = {
    "short": ([40, 1, 1], [(30, 0), (10, 0), (1, 0), (1, 0)]),
    "grows past the switch": (
        [SWITCH - 2, 1, 1, 1, 1],
        [(50, 0), (SWITCH - 52, 0), (1, 0), (1, 0), (1, 1), (1, 1)],
    ),
    "long from the start": ([NUM_POSITIONS - 2, 1, 1], [(60, 1), (34, 1), (1, 1), (1, 1)]),
}


class Fixed(nn.Module):
    """Rotates as it is told, in float64."""

    def __init__(self, rows) -> None:
        super().__init__()
        self._rows = rows

    def forward(self, x, position_ids):
        return tuple(one.double() for one in self._rows)


@pytest.fixture(scope="module")
def embeddings():
    shape = (NUM_POSITIONS, WIDTH)
    return np.random.default_rng(6).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phi")
    export_decoder(tiny_phi(), folder / "decoder", precision="fp32")
    return folder / "decoder"


@pytest.fixture(scope="module")
def decoders(folder):
    return {
        "torch": TorchDecoder(tiny_phi()),
        "onnx": OnnxRuntimeDecoder(folder / DECODER_GRAPH_NAME, num_threads=1),
    }


@pytest.fixture(scope="module")
def exact(embeddings):
    """Of each run logits of every position by float64, and how far float32 may be from them."""
    model = tiny_phi().double()
    model.config._attn_implementation = "eager"
    theirs = Phi3RotaryEmbedding(model.config)

    def run(lengths):
        ends = np.cumsum(lengths).tolist()
        parts = []
        for start, end in zip([0, *ends], ends, strict=False):
            whole = theirs(torch.zeros(1), torch.arange(end)[None])
            parts.append([one[:, start:end] for one in whole])
        model.model.rotary_emb = Fixed([torch.cat(one, 1) for one in zip(*parts, strict=True)])
        size = ends[-1]
        mask = torch.full((1, 1, size, size), -1e4, dtype=torch.float64).triu(1)

        def logits(rows):
            return model(inputs_embeds=rows, attention_mask=mask, use_cache=False).logits[0]

        exact, bound = in_float32(logits, torch.from_numpy(embeddings[:size]).double()[None])
        assert 0 < bound < 1e-4 * np.abs(exact).max()
        return exact, bound

    return {name: run(lengths) for name, (lengths, _) in RUNS.items()}


def extend(decoder, embeddings, passes, *, room=MAX_POSITIONS):
    """Return (passes, V), logits of the last position of each."""
    past, logits, start = decoder.begin(room), [], 0
    for length, regime in passes:
        rows = embeddings[start : start + length]
        rows = torch.from_numpy(rows) if isinstance(decoder, TorchDecoder) else rows
        logits.append(decoder.extend(rows, past, regime=regime))
        start += length
    return np.stack(logits)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("engine", ENGINES)
def test_logits_are_those_of_one_pass_without_a_past(decoders, embeddings, exact, engine, run):
    logits, bound = exact[run]
    passes = RUNS[run][1]
    found = extend(decoders[engine], embeddings, passes)
    ends = np.cumsum([length for length, _ in passes]) - 1
    assert np.abs(found - logits[ends]).max() <= bound


@pytest.mark.parametrize("engine", ENGINES)
def test_the_other_regime_is_another_answer(decoders, embeddings, exact, engine):
    """So the bound above would not let it pass."""
    found = [extend(decoders[engine], embeddings, [(40, regime)]) for regime in (0, 1)]
    assert np.abs(found[0] - found[1]).max() > 1000 * exact["short"][1]

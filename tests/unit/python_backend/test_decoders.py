"""Both decoders, PyTorch's and ONNX Runtime's, behind one interface and with the same logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine_build.decoder_export import export_decoder
from python_backend.generate import OnnxRuntimeDecoder
from python_backend.generate.torch import TorchDecoder
from tests.support.llama import WIDTH, tiny_llama
from tests.support.rounding import in_float32

ENGINES = ("torch", "onnx")


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    model, folder = tiny_llama(), tmp_path_factory.mktemp("decoder")
    export_decoder(model, folder / "decoder", precision="fp32")
    return {
        "torch": TorchDecoder(model),
        "onnx": OnnxRuntimeDecoder(folder / "decoder" / "model.onnx", num_threads=1),
    }


@pytest.fixture(scope="module")
def embeddings():
    return np.random.default_rng(4).normal(size=(40, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def exact(embeddings):
    """Logits of every position by float64, and how far float32 may be from them."""
    model = tiny_llama().double()
    model.config._attn_implementation = "eager"
    rows = torch.from_numpy(embeddings).double()[None]
    # Of the model's own, the lowest float64, a rounding could be infinite; this is as good as none.
    mask = torch.full((1, 1, 40, 40), -1e4, dtype=torch.float64).triu(1)

    def logits(rows):
        return model(inputs_embeds=rows, attention_mask=mask, use_cache=False).logits[0]

    exact, bound = in_float32(logits, rows)
    assert 0 < bound < 1e-4 * np.abs(exact).max()
    return exact, bound


def extend(decoder, embeddings, lengths, *, room=64):
    """Compute in passes of these lengths; return the last logits of each, and the past."""
    past, logits, start = decoder.begin(room), [], 0
    for length in lengths:
        logits.append(decoder.extend(embeddings[start : start + length], past, regime=0))
        start += length
    return np.stack(logits), past


def home(engine: str, embeddings):
    return torch.from_numpy(embeddings) if engine == "torch" else embeddings


@pytest.mark.parametrize("lengths", [[40], [39, 1], [25, 9, 6], [1] * 40], ids=len)
@pytest.mark.parametrize("engine", ENGINES)
def test_logits_are_those_of_one_pass_however_it_is_cut(
    decoders, embeddings, exact, engine, lengths
):
    logits, bound = exact
    found, past = extend(decoders[engine], home(engine, embeddings), lengths)
    assert (found.dtype.name, past.num_positions) == ("float32", 40)
    assert np.abs(found - logits[np.cumsum(lengths) - 1]).max() <= bound

"""What exported decoders hold: which weights in how many bits, and nothing of this machine."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from transformers import GPT2Config, GPT2LMHeadModel

from engine_build.decoder_export import export_decoder
from groundserve.engines.manifest import DECODER_GRAPH_NAME
from groundserve.errors import UnsupportedError
from groundserve.scoring.rounded_models import round_decoder
from python_backend.generate import OnnxRuntimeDecoder
from python_backend.generate.torch import TorchDecoder
from tests.support.llama import VOCAB_SIZE, WIDTH, tiny_llama

BLOCK = 32
"""Weights of an output channel with one scale."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for precision in ("fp32", "int4"):
        export_decoder(tiny_llama(), folder / precision, precision=precision)
    return {precision: folder / precision for precision in ("fp32", "int4")}


@pytest.fixture(scope="module")
def embeddings():
    return np.random.default_rng(4).normal(size=(40, WIDTH)).astype(np.float32)


def load(folder) -> onnx.GraphProto:
    return onnx.load(folder / DECODER_GRAPH_NAME).graph


def logits(decoder, embeddings) -> np.ndarray:
    """Of each position, one pass a position."""
    past = decoder.begin(len(embeddings))
    rows = np.split(embeddings, len(embeddings))
    return np.stack([decoder.extend(row, past, regime=0) for row in rows])


def rounded(embeddings) -> np.ndarray:
    model = tiny_llama()
    round_decoder(model)
    return logits(TorchDecoder(model), embeddings)


def error(found, expected) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def test_the_weights_are_those_that_the_gate_rounds(folders):
    """The head's, which is neither packed with another one nor turned."""
    graph = load(folders["int4"])
    (node,) = [one for one in graph.node if "lm_head" in one.name and one.op_type == "MatMulNBits"]
    tensors = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    packed, scales = (tensors[name] for name in node.input[1:3])
    # Two steps a byte, the first in its low half, 8 above what they are.
    steps = np.stack([packed & 15, packed >> 4], axis=-1).reshape(VOCAB_SIZE, -1, BLOCK)
    weights = (steps.astype(np.float32) - 8) * scales.reshape(VOCAB_SIZE, -1, 1)
    model = tiny_llama()
    round_decoder(model)
    expected = model.lm_head.weight.numpy()
    # A weight half way between two steps may go to either; there are none such among random ones.
    np.testing.assert_allclose(weights.reshape(expected.shape), expected, rtol=1e-6, atol=0)


def test_an_engine_in_int4_costs_what_the_roundings_cost(folders, embeddings):
    exact = logits(TorchDecoder(tiny_llama()), embeddings)
    engine = logits(
        OnnxRuntimeDecoder(folders["int4"] / DECODER_GRAPH_NAME, num_threads=1), embeddings
    )
    same_roundings = rounded(embeddings)
    # A value next to the middle between two steps goes either way, and later layers with it; but
    # both are nearer to each other than to float32.
    assert error(engine, same_roundings) < error(same_roundings, exact) / 2
    assert error(engine, exact) == pytest.approx(error(same_roundings, exact), rel=0.3)


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_two_exports_are_the_same_bytes(folders, precision, tmp_path):
    export_decoder(tiny_llama(), tmp_path / "again", precision=precision)
    for path in folders[precision].iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "again" / DECODER_GRAPH_NAME).read_bytes()


def test_a_decoder_that_was_not_tried_is_refused(tmp_path):
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=10))
    with pytest.raises(UnsupportedError, match="Phi3ForCausalLM, got GPT2LMHeadModel; use profile"):
        export_decoder(model, tmp_path / "none", precision="fp32")
    assert not (tmp_path / "none").exists()


def test_scaled_positions_are_refused(tmp_path):
    model = tiny_llama()
    model.config.rope_parameters = {**model.config.rope_parameters, "rope_type": "linear"}
    with pytest.raises(UnsupportedError, match="rope_type default, got linear; use profile torch"):
        export_decoder(model, tmp_path / "none", precision="fp32")
    assert not (tmp_path / "none").exists()


def test_the_graph_runs_in_plain_onnx_runtime(folders):
    """No operator of another library: who serves has no builder."""
    session = onnxruntime.InferenceSession(folders["int4"] / DECODER_GRAPH_NAME)
    assert session.get_providers() == ["CPUExecutionProvider"]
    domains = {node.domain for node in load(folders["int4"]).node}
    assert domains <= {"", "com.microsoft"}

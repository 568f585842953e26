"""What exported decoders hold: which weights in how many bits, and nothing of this machine."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from engine_build.decoder_export import export_decoder, export_front
from groundserve.errors import UnsupportedError
from groundserve.families.modules import FrontModule
from groundserve.families.plans import PlanInput
from groundserve.manifest import DECODER_GRAPH_NAME
from groundserve.scoring.int4_model import round_decoder
from python_backend.generate import OnnxRuntimeDecoder, OnnxRuntimeFront, TorchDecoder
from tests.llama import VOCAB_SIZE, WIDTH, tiny_llama
from tests.reference import REPOSITORY

BLOCK = 32
"""Weights of an output channel with one scale."""
IMPORT = """
import logging, sys
before = sys.path[:], logging.getLogger().handlers[:], logging.getLogger().level
from engine_build.decoder_export import _import_builders
_import_builders()
assert before == (sys.path, logging.getLogger().handlers, logging.getLogger().level)
"""


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


def test_all_linear_layers_are_in_4_bits_and_nothing_else_is(folders):
    graph = load(folders["int4"])
    found = {one.name: one for one in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    sizes = [
        {one.name: one.i for one in node.attribute if one.name in ("K", "N", "bits", "block_size")}
        for node in products
    ]
    model = tiny_llama()
    num_weights = sum(one.weight.numel() for one in model.modules() if isinstance(one, nn.Linear))
    assert sum(one["K"] * one["N"] for one in sizes) == num_weights
    assert {(one["bits"], one["block_size"]) for one in sizes} == {(4, BLOCK)}
    assert not [node for node in graph.node if node.op_type == "MatMul"]
    floats = {node.input[2] for node in products}
    others = [one for name, one in found.items() if one.data_type == 1 and name not in floats]
    norms = sum(weight.numel() for weight in model.parameters() if weight.ndim == 1)
    rotary = [one for one in others if one.name in ("cos_cache", "sin_cache")]
    assert sum(np.prod(one.dims) for one in others if one not in rotary) == norms


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


def test_int4_takes_an_eighth_and_the_scales(folders):
    num_bytes = {
        precision: (folder / f"{DECODER_GRAPH_NAME}.data").stat().st_size
        for precision, folder in folders.items()
    }
    graph = load(folders["fp32"])
    weights = sum(np.prod(one.dims) for one in graph.initializer if len(one.dims) == 2)
    rotary = sum(np.prod(one.dims) for one in graph.initializer if one.name.endswith("_cache"))
    saved = 4 * (weights - rotary) * (1 - 1 / 8 - 1 / BLOCK)
    # Each tensor begins at a boundary.
    assert num_bytes["fp32"] - num_bytes["int4"] == pytest.approx(saved, rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_two_exports_are_the_same_bytes(folders, precision, tmp_path):
    export_decoder(tiny_llama(), tmp_path / "again", precision=precision)
    for path in folders[precision].iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "again" / DECODER_GRAPH_NAME).read_bytes()


def test_a_directory_holds_the_graph_and_its_weights_alone(folders):
    for folder in folders.values():
        names = sorted(path.name for path in folder.iterdir())
        assert names == [DECODER_GRAPH_NAME, f"{DECODER_GRAPH_NAME}.data"]


def test_key_heads_that_are_shared_stay_shared(tmp_path):
    export_decoder(tiny_llama(num_kv_heads=4), tmp_path / "all", precision="fp32")
    heads = {
        value.type.tensor_type.shape.dim[1].dim_value
        for value in load(tmp_path / "all").input
        if value.name.startswith("past_key_values.")
    }
    assert heads == {4}


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


def test_the_builder_leaves_a_process_as_it_was():
    subprocess.run([sys.executable, "-c", IMPORT], check=True, cwd=REPOSITORY)


def test_an_export_prints_and_logs_nothing(tmp_path, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        export_decoder(tiny_llama(num_layers=1), tmp_path / "one", precision="int4")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_front_takes_inputs_of_any_length(tmp_path):
    class Weighted(FrontModule):
        def forward(self, features, weights, shift):
            return weights[:, None] * features.sum((0, 1)) + shift

    inputs = (
        PlanInput(name="WEIGHTS", dims=(-1,), max_dims=(50,)),
        PlanInput(name="SHIFT", dims=(1,), max_dims=(1,)),
    )
    export_front(Weighted(), tmp_path / "front.onnx", feature_width=6, inputs=inputs)
    names = [one.name for one in onnx.load(tmp_path / "front.onnx").graph.input]
    assert names == ["FEATURES", "WEIGHTS", "SHIFT"]
    np.save(tmp_path / "table.npy", np.zeros((2, 6), np.float32))
    front = OnnxRuntimeFront(tmp_path / "front.onnx", tmp_path / "table.npy", num_threads=1)
    random = np.random.default_rng(1)
    for num_units, tokens, length in ((1, 1, 1), (5, 2, 9)):
        features, weights, shift = (
            random.integers(-9, 9, shape).astype(np.float32)
            for shape in ((num_units, tokens, 6), (length,), (1,))
        )
        expected = weights[:, None] * features.sum((0, 1)) + shift
        assert np.array_equal(front.embed_video(features, (weights, shift)), expected)


def test_the_graph_runs_in_plain_onnx_runtime(folders):
    """No operator of another library: who serves has no builder."""
    session = onnxruntime.InferenceSession(folders["int4"] / DECODER_GRAPH_NAME)
    assert session.get_providers() == ["CPUExecutionProvider"]
    domains = {node.domain for node in load(folders["int4"]).node}
    assert domains <= {"", "com.microsoft"}

"""What the export of a decoder keeps beside its products: tables as the model's, a head's bias."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from engine_build.decoder_export import export_decoder
from groundserve.errors import UnsupportedError
from groundserve.manifest import DECODER_GRAPH_NAME
from groundserve.rotary import RotaryTables
from groundserve.scoring.int4_model import round_decoder
from python_backend.generate import OnnxRuntimeDecoder, TorchDecoder
from tests.llama import tiny_llama
from tests.phi import MAX_POSITIONS, SWITCH, WIDTH, tiny_phi

PRECISIONS = ("fp32", "int4")
LENGTH = 40


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for precision in PRECISIONS:
        export_decoder(tiny_phi(), folder / precision, precision=precision)
    return {precision: folder / precision for precision in PRECISIONS}


@pytest.fixture(scope="module")
def embeddings():
    return np.random.default_rng(4).normal(size=(LENGTH, WIDTH)).astype(np.float32)


def tensors_of(folder) -> dict[str, np.ndarray]:
    graph = onnx.load(folder / DECODER_GRAPH_NAME).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


def open_graph(folder) -> OnnxRuntimeDecoder:
    return OnnxRuntimeDecoder(folder / DECODER_GRAPH_NAME, num_threads=1)


def logits(decoder, embeddings, *, regime) -> np.ndarray:
    """Of each position, one pass a position."""
    past = decoder.begin(len(embeddings))
    rows = np.split(embeddings, len(embeddings))
    return np.stack([decoder.extend(row, past, regime=regime) for row in rows])


def error(found, expected) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tables_are_the_models_to_the_bit(folders, precision):
    found = tensors_of(folders[precision])
    for name, table in zip(("cos", "sin"), tiny_phi().model.rotary_emb.tables(), strict=True):
        assert len(table) == SWITCH + MAX_POSITIONS
        assert np.array_equal(found[f"{name}_cache"], table.numpy())


@pytest.mark.parametrize("changed", [{"rounding": torch.bfloat16}, {"angles": torch.bfloat16}, {}])
def test_tables_of_one_regime_may_be_rounded_and_positions_are_counted_still(changed, tmp_path):
    model = tiny_llama()
    exact = RotaryTables.of(model.config).tables()
    model.model.rotary_emb = RotaryTables.of(model.config, **changed)
    export_decoder(model, tmp_path / "decoder", precision="fp32")
    found = tensors_of(tmp_path / "decoder")
    for name, table, other in zip(
        ("cos", "sin"), model.model.rotary_emb.tables(), exact, strict=True
    ):
        assert np.array_equal(found[f"{name}_cache"], table.numpy())
        assert torch.equal(table, other) == (not changed)
    names = [one.name for one in onnx.load(tmp_path / "decoder" / DECODER_GRAPH_NAME).graph.input]
    assert "position_ids" not in names
    rows = np.random.default_rng(4).normal(size=(LENGTH, WIDTH)).astype(np.float32)
    expected = logits(TorchDecoder(model), rows, regime=0)
    assert error(logits(open_graph(tmp_path / "decoder"), rows, regime=0), expected) < 1e-5


def test_tables_without_rounding_are_those_that_the_builder_makes(tmp_path):
    """So what is exported of a model of transformers' own, without tables, is the same."""
    model = tiny_llama()
    export_decoder(model, tmp_path / "own", precision="fp32")
    model.model.rotary_emb = RotaryTables.of(model.config)
    export_decoder(model, tmp_path / "tables", precision="fp32")
    for path in (tmp_path / "own").iterdir():
        assert (tmp_path / "tables" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_heads_bias_is_added_to_the_logits(folders, embeddings, precision, tmp_path):
    bias = tiny_phi().lm_head.bias.numpy()
    assert any(np.array_equal(one, bias) for one in tensors_of(folders[precision]).values())
    without = tiny_phi()
    without.lm_head.bias.zero_()
    export_decoder(without, tmp_path / "without", precision=precision)
    found, plain = (
        logits(open_graph(folder), embeddings, regime=0)
        for folder in (folders[precision], tmp_path / "without")
    )
    # One addition, of numbers of this size.
    bound = np.finfo(np.float32).eps * np.abs(found).max()
    assert np.abs(found - plain - bias).max() <= bound


@pytest.mark.parametrize("regime", [0, 1])
def test_an_engine_in_int4_costs_what_the_roundings_cost(folders, embeddings, regime):
    model = tiny_phi()
    exact = logits(TorchDecoder(model), embeddings, regime=regime)
    round_decoder(model)
    same_roundings = logits(TorchDecoder(model), embeddings, regime=regime)
    engine = logits(open_graph(folders["int4"]), embeddings, regime=regime)
    # As of Llama: both are nearer to each other than to float32.
    assert error(engine, same_roundings) < error(same_roundings, exact) / 2
    assert error(engine, exact) == pytest.approx(error(same_roundings, exact), rel=0.3)


def test_a_window_that_no_sequence_fills_is_none(folders, embeddings, tmp_path):
    model = tiny_phi()
    model.config.sliding_window = MAX_POSITIONS
    export_decoder(model, tmp_path / "window", precision="fp32")
    for path in folders["fp32"].iterdir():
        assert (tmp_path / "window" / path.name).read_bytes() == path.read_bytes()


def test_what_the_graph_would_not_compute_is_refused(tmp_path):
    window, scaled = tiny_phi(), tiny_phi()
    window.config.sliding_window = MAX_POSITIONS - 1
    scaled.model.rotary_emb = type(scaled)(scaled.config).model.rotary_emb
    for model, message in (
        (window, "attend to all 256 positions, got a window of 255; use profile torch"),
        (scaled, "rope_type default, got longrope; use profile torch"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            export_decoder(model, tmp_path / "none", precision="fp32")
        assert not (tmp_path / "none").exists()

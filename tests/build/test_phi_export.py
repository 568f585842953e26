"""What the export of a decoder keeps beside its products: tables as the model's, a head's bias."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engine_build.decoder_export import export_decoder
from groundserve.errors import UnsupportedError
from groundserve.manifest import DECODER_GRAPH_NAME
from python_backend.generate import OnnxRuntimeDecoder
from tests.support.phi import MAX_POSITIONS, SWITCH, WIDTH, tiny_phi

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


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tables_are_the_models_to_the_bit(folders, precision):
    found = tensors_of(folders[precision])
    for name, table in zip(("cos", "sin"), tiny_phi().model.rotary_emb.tables(), strict=True):
        assert len(table) == SWITCH + MAX_POSITIONS
        assert np.array_equal(found[f"{name}_cache"], table.numpy())


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

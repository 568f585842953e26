"""Encoders of no family: what they give a module, and what a family may not ask for yet."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from groundserve.errors import EngineMismatchError
from groundserve.families.modules import VisionModule
from groundserve.manifest import ROW_BYTES_KEY
from python_backend.encode import OnnxRuntimeEncoder, TorchEncoder

NUM_UNITS = 11  # more than run at once on a CPU
WEIGHTS = np.array([[1, 10], [100, 1000]], np.float32)
OFFSET = np.array([0.5], np.float32)


class TwoStreams(VisionModule):
    """Weighs the means of a unit's eight small frames and of its large one; no attention."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.batches = []

    def forward(self, small, large, weights, offset):
        self.batches.append(tuple(tuple(one.shape) for one in (small, large, weights, offset)))
        means = torch.stack([small.float().mean((1, 2, 3, 4)), large.float().mean((1, 2, 3))], 1)
        # (u, 2, 2) x (u, 2, 1) -> (u, 2, 1): two tokens a unit
        return (weights @ means.unsqueeze(2) + offset.unsqueeze(1)) * self.scale


@pytest.mark.parametrize("home", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_torch_encoder_takes_streams_then_plan_inputs(home):
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (NUM_UNITS, 8, 2, 2, 3), dtype=np.uint8)
    large = random.integers(0, 256, (NUM_UNITS, 4, 4, 3), dtype=np.uint8)
    model = TwoStreams()
    features = TorchEncoder(model).encode(home(small), home(large), WEIGHTS[None], OFFSET[None])
    assert features.shape == (NUM_UNITS, 2, 1)
    means = np.stack([small.mean((1, 2, 3, 4)), large.mean((1, 2, 3))], axis=1)
    np.testing.assert_allclose(features[:, :, 0], means @ WEIGHTS.T + 0.5, rtol=1e-5)
    # Eight frames at once, of which a unit has as many.
    assert [shapes[0][0] for shapes in model.batches] == [1] * NUM_UNITS
    assert model.batches[1] == ((1, 8, 2, 2, 3), (1, 4, 4, 3), (1, 2, 2), (1, 1))


@pytest.mark.parametrize(
    ("unit_bytes", "side", "batches"),
    [
        pytest.param(1, 64, [5], id="small"),
        # 4 MiB of floats: two at once.
        pytest.param(1, 2**10, [2, 2, 1], id="large"),
        pytest.param(1, 2**11, [1] * 5, id="one_alone"),
        pytest.param(2**30, 64, [1] * 5, id="wide_layers"),
    ],
)
def test_onnxruntime_encoder_counts_the_floats_of_frames_as_decoded(
    tmp_path, monkeypatch, unit_bytes, side, batches
):
    path = tmp_path / "vision_encoder.onnx"
    model = sums_of_units(unit_bytes)
    # One input with sides that have names: (n, height) is enough.
    frames_input = model.graph.input[0].type.tensor_type.shape.dim[1]
    frames_input.dim_param = "height"
    onnx.save(model, path)
    ran = []

    class Session(onnxruntime.InferenceSession):
        def run(self, names, feeds):
            ran.append(len(feeds["FRAMES"]))
            return super().run(names, feeds)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    frames = np.ones((5, side * side), np.uint8)
    features = OnnxRuntimeEncoder(path, num_threads=1).encode(frames, np.ones((1, 1), np.float32))
    assert features.tolist() == [[side * side]] * 5
    assert ran == batches


@pytest.mark.parametrize("noted", [None, "0", "many"])
def test_onnxruntime_encoder_refuses_a_graph_that_does_not_say_its_size(tmp_path, noted):
    model = sums_of_units(noted)
    if noted is None:
        del model.metadata_props[:]
    path = tmp_path / "vision_encoder.onnx"
    onnx.save(model, path)
    with pytest.raises(
        EngineMismatchError,
        match=r"^vision_encoder.onnx must say .*row_bytes.*; rebuild the engine",
    ):
        OnnxRuntimeEncoder(path, num_threads=1)


def sums_of_units(unit_bytes):
    """Return a graph: frames (n, 2) and weights (n, 2) -> their products' sums (n, 1)."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["FRAMES"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["floats", "WEIGHTS"], ["products"]),
            helper.make_node("ReduceSum", ["products", "axes"], ["FEATURES"]),
        ],
        "sums",
        [
            helper.make_tensor_value_info("FRAMES", TensorProto.UINT8, ["n", 2]),
            helper.make_tensor_value_info("WEIGHTS", TensorProto.FLOAT, ["n", "w"]),
        ],
        [helper.make_tensor_value_info("FEATURES", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {ROW_BYTES_KEY: str(unit_bytes)})
    return model

"""The encoder of ONNX Runtime: how many units it computes at once."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from groundserve.engines.manifest import ROW_BYTES_KEY
from python_backend.encode import OnnxRuntimeEncoder


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

"""Passes that end in their middle."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from groundserve.errors import DeadlineExceededError, RequestCancelledError
from groundserve.runtime.deadline import Deadline
from python_backend.interruption import ending_with, look_before, run_session


def endless_session() -> onnxruntime.InferenceSession:
    """A loop of some hours, of operators that take no time."""
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    goes_on = helper.make_tensor_value_info("goes_on", TensorProto.BOOL, [])
    value_in = helper.make_tensor_value_info("value_in", TensorProto.FLOAT, [1])
    value_out = helper.make_tensor_value_info("value_out", TensorProto.FLOAT, [1])
    still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["still"]),
            helper.make_node("Sin", ["value_in"], ["value_out"]),
        ],
        "body",
        [number, goes_on, value_in],
        [still, value_out],
    )
    times = helper.make_tensor("times", TensorProto.INT64, [], [2**40])
    loop = helper.make_node("Loop", ["times", "", "x"], ["y"], body=body)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([loop], "endless", [x], [y], [times])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def test_a_pass_of_onnx_runtime_ends_with_its_request():
    session, feeds = endless_session(), {"x": np.ones(1, np.float32)}
    began = time.monotonic()
    cancelled = Deadline.after(600, is_cancelled=lambda: time.monotonic() > began + 0.2)
    with ending_with(cancelled), pytest.raises(RequestCancelledError):
        run_session(session.run, None, feeds)
    with ending_with(Deadline.after(0.2)), pytest.raises(DeadlineExceededError):
        run_session(session.run, None, feeds)


def test_layers_of_pytorch_look_before_they_run():
    ran = []
    layers = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    layers[0].register_forward_hook(lambda *_: ran.append("first"))
    layers[1].register_forward_hook(lambda *_: ran.append("second"))
    look_before(layers)
    with (
        ending_with(Deadline.after(600, is_cancelled=lambda: bool(ran))),
        pytest.raises(RequestCancelledError),
    ):
        layers(torch.ones(1))
    assert ran == ["first"]
    layers(torch.ones(1))
    assert ran == ["first", "first", "second"]

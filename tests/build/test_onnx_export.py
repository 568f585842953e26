"""What exported graphs hold besides the model's arithmetic."""

from __future__ import annotations

import importlib.util

import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

from engine_build.onnx_export import export_graph
from groundserve.manifest import ROW_BYTES_KEY

MODULE = """
from torch import nn

class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 5)
        nn.init.constant_(self.linear.weight, 0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, rows):
        return self.linear(rows) * 2
"""


def exported(folder, *, name):
    """Export the module as a checkout in `folder` does."""
    folder.mkdir()
    (folder / "code.py").write_text(MODULE)
    spec = importlib.util.spec_from_file_location(name, folder / "code.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    export_graph(
        module.Doubled(),
        (torch.zeros(2, 3),),
        folder / "graph.onnx",
        inputs=["ROWS"],
        output="OUT",
        dynamic_shapes=({0: Dim("n", min=1)},),
    )
    return (folder / "graph.onnx").read_bytes()


def test_a_graph_does_not_depend_on_where_the_code_lies(tmp_path):
    one = exported(tmp_path / "one", name="first_checkout")
    other = exported(tmp_path / "other", name="second_checkout")
    assert one == other
    assert str(tmp_path).encode() not in one


def test_a_graph_says_how_wide_a_row_becomes(tmp_path):
    exported(tmp_path / "one", name="any_checkout")
    graph = onnx.load(tmp_path / "one" / "graph.onnx")
    # Three floats in, five out.
    assert {one.key: one.value for one in graph.metadata_props} == {ROW_BYTES_KEY: "20"}


def test_a_row_is_as_wide_as_its_input_at_least(tmp_path):
    """Of a stage that takes the frames of all units apart at once no tensor has a row a unit."""

    class MeanOfFrames(nn.Module):
        def forward(self, frames, weights):
            means = frames.flatten(0, 1).float().mean(1).unflatten(0, (-1, 4))
            return weights @ means.unsqueeze(2)

    export_graph(
        MeanOfFrames(),
        (torch.zeros(2, 4, 6, dtype=torch.uint8), torch.zeros(2, 3, 4)),
        tmp_path / "graph.onnx",
        inputs=["FRAMES", "WEIGHTS"],
        output="OUT",
        dynamic_shapes=({0: (n := Dim("n", min=1))}, {0: n, 1: Dim("g", min=1)}),
    )
    graph = onnx.load(tmp_path / "graph.onnx")
    assert {one.key: one.value for one in graph.metadata_props} == {ROW_BYTES_KEY: "24"}


@pytest.mark.parametrize(("name", "copies"), [("vision_encoder", False), ("grounding", True)])
def test_keys_are_copied_only_for_heads_that_share_them(engine_dirs, name, copies):
    """The tiny decoder has two query heads to a key head, the vision tower one."""
    graph = onnx.load(engine_dirs["cpu"] / f"{name}.onnx").graph
    producers = {output: node for node in graph.node for output in node.output}
    for attention in (node for node in graph.node if node.op_type == "MultiHeadAttention"):
        for value in attention.input[1:3]:
            kinds = []
            while producers[value].op_type not in {"MatMul", "Mul"}:
                kinds.append(producers[value].op_type)
                value = producers[value].input[0]
            assert ("Expand" in kinds) is copies

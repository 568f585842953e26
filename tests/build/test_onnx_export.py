"""What exported graphs hold besides the model's arithmetic."""

from __future__ import annotations

import importlib.util

import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

from engine_build.onnx_export import export_graph, export_vision_encoder
from groundserve.engines.manifest import ROW_BYTES_KEY
from groundserve.errors import GroundserveError
from groundserve.families.modules import VisionModule
from groundserve.families.plans import FrameStream
from groundserve.families.vision_inputs import VisionInputs

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


def test_a_row_counts_what_a_unit_has_several_of(tmp_path):
    """A stage that takes the frames of all units apart at once has four rows of floats a unit."""

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
    assert {one.key: one.value for one in graph.metadata_props} == {ROW_BYTES_KEY: str(4 * 6 * 4)}


def test_a_graph_for_the_examples_units_alone_is_refused(tmp_path):
    class ForTwo(VisionModule):
        def forward(self, frames):
            means = frames.float().mean(dim=(1, 2))  # (n, 3)
            return torch.stack([means[i] for i in range(len(means))]).unsqueeze(1)

    stream = FrameStream(name="FRAMES", size=4)
    inputs = VisionInputs(streams=(stream,), plan_inputs=())
    path = tmp_path / "vision_encoder.onnx"
    with pytest.raises(GroundserveError, match=r"dimensions \[0\] of FRAMES must vary.*\[2,"):
        export_vision_encoder(ForTwo(), path, inputs)
    assert not path.exists()

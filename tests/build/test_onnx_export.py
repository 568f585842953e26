"""What exported graphs hold besides the model's arithmetic."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional

from engine_build.onnx_export import export_graph, export_vision_encoder
from groundserve.errors import GroundserveError
from groundserve.families.modules import VisionModule
from groundserve.families.plans import FrameStream
from groundserve.families.vision_inputs import VisionInputs
from groundserve.manifest import ROW_BYTES_KEY
from python_backend.encode import OnnxRuntimeEncoder

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


def test_a_row_is_as_wide_as_its_widest_input_at_least(tmp_path):
    class Corners(nn.Module):
        def forward(self, small, large):
            return small[:, 0].float() + large[:, 0].float()

    export_graph(
        Corners(),
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, 50, dtype=torch.uint8)),
        tmp_path / "graph.onnx",
        inputs=["SMALL", "LARGE"],
        output="OUT",
        dynamic_shapes=({0: (n := Dim("n", min=1))}, {0: n}),
    )
    graph = onnx.load(tmp_path / "graph.onnx")
    assert {one.key: one.value for one in graph.metadata_props} == {ROW_BYTES_KEY: "50"}


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


class AnySize(VisionModule):
    """Resizes frames as decoded in the graph."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3 * 8 * 8, 5)

    def forward(self, frames):
        pixels = frames.permute(0, 3, 1, 2).float() / 255
        pixels = functional.interpolate(pixels, size=(8, 8), mode="bicubic", align_corners=False)
        return self.linear(pixels.flatten(1)).unsqueeze(1)


def test_a_graph_takes_frames_of_any_size_as_decoded(tmp_path):
    model = AnySize().eval()
    path = tmp_path / "vision_encoder.onnx"
    stream = FrameStream(name="PIXELS", size=None)
    export_vision_encoder(model, path, VisionInputs(streams=(stream,), plan_inputs=()))
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    assert [dim.dim_param or dim.dim_value for dim in shape.dim] == ["n", "height", "width", 3]
    encoder = OnnxRuntimeEncoder(path, num_threads=1)
    random = np.random.default_rng(0)
    for num_frames, height, width in ((1, 30, 17), (3, 17, 30), (2, 9, 9), (4, 1, 400)):
        frames = random.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected = model(torch.from_numpy(frames)).numpy()
        np.testing.assert_allclose(encoder.encode(frames), expected, atol=1e-5)

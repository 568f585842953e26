"""A build asks the checkpoint's family: its name, its inputs, and whether a GPU can have it."""

from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from torch import nn
from tritonclient.grpc.model_config_pb2 import ModelConfig

from engine_build import build
from engine_build.families import get_gpu_family
from engine_build.onnx_export import export_grounding, export_vision_encoder
from engine_build.tensorrt_plan import vision_shapes
from groundserve import families
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.modules import VisionModule
from groundserve.families.plans import FrameStream, PlanInput
from groundserve.families.videoitg import VideoITG
from groundserve.families.vision_inputs import VisionInputs
from groundserve.manifest import Manifest
from tests.reference import SET_1


class Twin(VideoITG):
    """VideoITG by another name."""

    name = "twin"

    def recognises(self, raw_config):
        return raw_config.get("is_twin", False)


@pytest.fixture
def twin(monkeypatch, tmp_path):
    """A checkpoint of a family that is registered for this test."""
    monkeypatch.setitem(sys.modules, "tests_twin", SimpleNamespace(FAMILY=Twin()))
    monkeypatch.setattr(families, "_MODULES", {"twin": "tests_twin", **families._MODULES})
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(SET_1 / "videoitg-tiny", checkpoint)
    shutil.copytree(SET_1 / "siglip-tiny-patch14-112", tmp_path / "siglip-tiny-patch14-112")
    config = checkpoint / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "is_twin": True}))
    return checkpoint


def test_the_manifest_and_the_public_model_have_the_familys_name(twin, tmp_path):
    out = tmp_path / "engines"
    assert build(twin, out, profile="torch").family == "twin"
    assert isinstance(Manifest.load(out).seam, Twin)
    text = (out / "model_repository" / "twin" / "config.pbtxt").read_text()
    ensemble = text_format.Parse(text, ModelConfig())
    assert ensemble.name == "twin"
    assert not (out / "model_repository" / "videoitg").exists()
    # What `folders` names is there to be opened again.
    assert (out / "checkpoint" / "model.safetensors").is_file()
    assert (out / "vision_tower" / "model.safetensors").is_file()


@pytest.mark.parametrize("profile", ["gpu", "gpu-trt"])
@pytest.mark.parametrize("family", ["twin", "vtimellm", "vtgllm", "grounded_videollm"])
def test_a_family_without_engines_for_a_gpu_names_the_profile_to_use(
    twin, tmp_path, profile, family
):
    steps = []
    message = (
        f"^the family {family} has no engines for the profile {profile}; build it with "
        "--profile torch --device cuda for a GPU, or with --profile cpu$"
    )
    with pytest.raises(UnsupportedError, match=message):
        build(twin, tmp_path / "engines", family=family, profile=profile, on_step=steps.append)
    assert steps == []
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('{"model_type": "llava"}', UnsupportedError, r'with model_type "llava" is of none .*'),
        ("{}", UnsupportedError, "with model_type null is of none .*"),
        (
            f'{{"model_type": "{"x" * 10**5}"}}',
            UnsupportedError,
            r'with model_type "x{56}\.\.\. .*',
        ),
        ("[]", InvalidRequestError, "is not an object"),
        ("{", InvalidRequestError, "is missing or not JSON"),
        ("\ufeff{}", InvalidRequestError, "is missing or not JSON"),
        ("[" * 10**5, InvalidRequestError, "is missing or not JSON"),
    ],
    ids=["other", "none", "long", "list", "cut", "mark", "deep"],
)
def test_a_config_of_no_family_is_one_error(tmp_path, text, error, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(error, match=rf"^checkpoint .*: config\.json {message}$"):
        families.open_checkpoint(tmp_path)


def test_a_library_that_is_missing_is_not_a_family_that_is(monkeypatch):
    monkeypatch.delitem(sys.modules, "engine_build.families.videoitg", raising=False)
    monkeypatch.setitem(sys.modules, "engine_build.families.videoitg.trtllm_convert", None)
    with pytest.raises(ModuleNotFoundError, match="trtllm_convert"):
        get_gpu_family("videoitg", "gpu")


def test_streams_that_are_not_decoded_are_refused_before_anything_stays(
    twin, tmp_path, monkeypatch
):
    streams = (FrameStream(name="RAW", size=None), FrameStream(name="KEY", size=56))
    monkeypatch.setattr(Twin, "streams", lambda self, spec: streams)
    with pytest.raises(UnsupportedError, match=r"twin takes RAW \(any size, 1 a unit\), KEY"):
        build(twin, tmp_path / "engines", profile="cpu")
    assert not list(tmp_path.glob("*engines*"))


class Segments(VisionModule):
    """Two frames of a segment and a larger one, a matrix and a vector of the plan."""

    prepared = False

    def prepare_export(self):
        self.prepared = True

    def forward(self, clips, keys, mixing, offset):
        means = clips.to(torch.float32).mean(dim=(2, 3))  # (n, 2, 3)
        means = means + keys.to(torch.float32).mean(dim=(1, 2)).unsqueeze(1)
        return torch.bmm(mixing, means + offset.unsqueeze(1))


INPUTS = VisionInputs(
    streams=(
        FrameStream(name="CLIPS", size=8, frames=(0, 3)),
        FrameStream(name="KEYS", size=12, frames=(1,)),
    ),
    plan_inputs=(
        PlanInput(name="MIXING", dims=(-1, 2), max_dims=(6, 2)),
        PlanInput(name="OFFSET", dims=(3,), max_dims=(3,), of_units=True),
    ),
)


def dims(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_a_graph_has_the_inputs_that_the_family_names(tmp_path):
    model = Segments()
    export_vision_encoder(model, tmp_path / "vision.onnx", INPUTS)
    assert model.prepared
    graph = onnx.load(tmp_path / "vision.onnx").graph
    kinds = [(one.name, one.type.tensor_type.elem_type, dims(one)) for one in graph.input]
    assert kinds == [
        ("CLIPS", onnx.TensorProto.UINT8, ["n", 2, 8, 8, 3]),
        ("KEYS", onnx.TensorProto.UINT8, ["n", 12, 12, 3]),
        ("MIXING", onnx.TensorProto.FLOAT, ["n", "g", 2]),
        ("OFFSET", onnx.TensorProto.FLOAT, ["n", 3]),
    ]
    assert [(one.name, dims(one)) for one in graph.output] == [("FEATURES", ["n", "g", 3])]


def test_a_plan_takes_the_shapes_that_the_family_names():
    offsets = np.zeros((5, 3), np.float32)  # of each unit its own
    usual = SimpleNamespace(inputs={"MIXING": np.zeros((4, 2), np.float32), "OFFSET": offsets})
    shapes = vision_shapes(INPUTS, usual)
    assert {name: (s.min_shape, s.opt_shape, s.max_shape) for name, s in shapes.items()} == {
        "CLIPS": ((1, 2, 8, 8, 3), (32, 2, 8, 8, 3), (32, 2, 8, 8, 3)),
        "KEYS": ((1, 12, 12, 3), (32, 12, 12, 3), (32, 12, 12, 3)),
        "MIXING": ((1, 1, 2), (32, 4, 2), (32, 6, 2)),
        "OFFSET": ((1, 3), (32, 3), (32, 3)),
    }


def test_a_head_without_transformers_is_exported(tmp_path):
    class Head(nn.Module):
        config = None

        def forward(self, features, text_ids):
            return features.sum(dim=(1, 2)) * text_ids.sum()

    export_grounding(Head(), tmp_path / "grounding.onnx", feature_width=5)
    graph = onnx.load(tmp_path / "grounding.onnx").graph
    assert [(one.name, dims(one)) for one in graph.input] == [
        ("FEATURES", ["t", "p", 5]),
        ("TEXT_IDS", ["l"]),
    ]
    assert [(one.name, dims(one)) for one in graph.output] == [("FRAME_LOGITS", ["t"])]

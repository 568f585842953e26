"""Precision int8 of profile cpu: what is in 8 bits, what the gate lets through, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import GraphProto, helper, numpy_helper

from groundserve.engines.manifest import VISION_ONNX_NAME, Manifest
from groundserve.errors import EngineMismatchError
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.runtime.instructions import int8_instructions
from groundserve.scoring.gate import check_engines
from groundserve.scoring.noise import NoiseRequest
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend import onnx_session
from python_backend.encode import OnnxRuntimeEncoder
from python_backend.pipeline import Pipeline
from tests.support.reference import SET_1

TINY = SET_1 / "videoitg-tiny"


@pytest.fixture(scope="module")
def int8_dir(engines_of):
    return engines_of(SHIPPED_CHECKPOINT, "cpu", "int8")


@pytest.fixture(scope="module")
def graph(int8_dir) -> GraphProto:
    return onnx.load(int8_dir / VISION_ONNX_NAME).graph


@pytest.fixture(scope="module")
def request_of_4(int8_dir) -> NoiseRequest:
    manifest = Manifest.load(int8_dir)
    return NoiseRequest.make(
        manifest.seam, manifest.model, vocab_size=10, num_frames=4, text_lengths=(3,)
    )


def test_the_gate_holds_engines_to_what_8_bits_cost_in_pytorch(int8_dir):
    report = check_engines(int8_dir, SHIPPED_CHECKPOINT, vision_tower=None)
    features = [check for check in report.checks if check.output == "features"]
    assert len(features) == 2
    for check in features:
        # Far above float32's rounding, and the bound is twice what the model predicts.
        assert 1e-3 < check.error < check.bound <= 0.2
        assert check.error == pytest.approx(check.bound / 2, rel=0.3)
    assert all(check.bound == 1e-3 for check in report.checks if check.output == "logits")


def _scale(quantized: str) -> str:
    return quantized.removesuffix("_quantized") + "_scale"


def _rewrite(graph: GraphProto, name: str, change) -> None:
    (tensor,) = [one for one in graph.initializer if one.name == name]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))


def _integer_products(graph: GraphProto) -> list[str]:
    return [node.input[1] for node in graph.node if node.op_type == "MatMulInteger"]


def double_a_scale(graph, which):
    _rewrite(graph, _scale(_integer_products(graph)[which]), lambda scale: scale * 2)


def permute_weights(graph, which):
    _rewrite(graph, _integer_products(graph)[which], lambda weight: weight[:, ::-1].copy())


def mask_attention(graph, which):
    attention = [node for node in graph.node if node.op_type.endswith("Attention")]
    attention[which].attribute.append(helper.make_attribute("unidirectional", 1))


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("fault", [double_a_scale, permute_weights, mask_attention])
# The smaller checkpoint, on which faults and roundings are smaller too.
@pytest.mark.parametrize("checkpoint", [SHIPPED_CHECKPOINT, TINY], ids=["digits", "tiny"])
def test_a_fault_in_one_layer_is_refused(
    checkpoint, fault, which, engines_of, tmp_path, monkeypatch
):
    monkeypatch.setattr("groundserve.scoring.gate.MAX_CPU_TFLOP", 0.0)  # the short request alone
    out = Path(shutil.copytree(engines_of(checkpoint, "cpu", "int8"), tmp_path / "engines"))
    model = onnx.load(out / VISION_ONNX_NAME)
    fault(model.graph, which)
    onnx.save(model, out / VISION_ONNX_NAME)
    with pytest.raises(EngineMismatchError, match="the vision engine differs from PyTorch"):
        check_engines(out, checkpoint, vision_tower=None)


def test_a_checkpoint_that_8_bits_do_not_hold_is_refused(int8_dir, monkeypatch):
    load = Checkpoint.load_vision

    def with_an_outlier(self):
        vision = load(self)
        # One channel so large that the steps between it and 0 swallow the others.
        vision.layers[0].layer_norm1.weight.data[0] *= 1e4
        return vision

    monkeypatch.setattr(Checkpoint, "load_vision", with_an_outlier)
    with pytest.raises(
        EngineMismatchError,
        match=r"^int8 is too coarse for this checkpoint: .*at most 0\.1; build it in fp32$",
    ):
        check_engines(int8_dir, SHIPPED_CHECKPOINT, vision_tower=None)


def test_a_frame_is_rounded_for_itself(int8_dir, request_of_4):
    """In one batch with another video's frames, or alone, it has the same features."""
    encoder = OnnxRuntimeEncoder(int8_dir / VISION_ONNX_NAME, num_threads=1)
    frames, *others = request_of_4.inputs
    frames = frames.copy()
    frames[1] //= 64  # a dark one, of another range
    together = encoder.encode(frames, *others)
    assert together.dtype == np.float32
    for i in range(len(frames)):
        np.testing.assert_array_equal(encoder.encode(frames[i : i + 1], *others)[0], together[i])


def test_without_instructions_products_are_of_uint8_and_as_exact(
    int8_dir, request_of_4, monkeypatch
):
    opened = []
    start = onnxruntime.InferenceSession

    def spy(path, options, providers):
        opened.append(options)
        return start(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    features = {}
    for name in (None, "AVX-VNNI"):
        monkeypatch.setattr(onnx_session, "int8_instructions", lambda name=name: name)
        encoder = OnnxRuntimeEncoder(int8_dir / VISION_ONNX_NAME, num_threads=1)
        features[name] = encoder.encode(*request_of_4.inputs)
    assert opened[0].get_session_config_entry("session.x64quantprecision") == "1"
    with pytest.raises(RuntimeError):  # not set
        opened[1].get_session_config_entry("session.x64quantprecision")
    if int8_instructions() is not None:  # here both are exact
        np.testing.assert_array_equal(*features.values())


def test_answers_say_what_computed_them_and_stay_near(int8_dir, engines_of, clips):
    results = {}
    for precision, engine_dir in (
        ("int8", int8_dir),
        ("fp32", engines_of(SHIPPED_CHECKPOINT, "cpu")),
    ):
        with Pipeline.open(engine_dir) as pipeline:
            results[precision] = pipeline.score(clips["vfr"], ["When does a seven appear?"])
    assert {name: result.engine["precision"] for name, result in results.items()} == {
        "int8": "int8",
        "fp32": "fp32",
    }
    int8, fp32 = (results[name].queries[0].frame_logits for name in ("int8", "fp32"))
    assert (int8 != fp32).any()
    # A tenth of the features, at most; logits of this model reach 10.
    np.testing.assert_allclose(int8, fp32, atol=1.0)

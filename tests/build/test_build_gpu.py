"""Engine directories for GPUs, as far as a machine without one goes."""

from __future__ import annotations

import json
import shutil

import pytest

from engine_build import build
from groundserve.engines.manifest import EMBEDDINGS_NAME, Manifest
from groundserve.errors import EngineMismatchError, UnsupportedError
from groundserve.limits import Limits
from groundserve.media import MediaWorkers
from groundserve.runtime.gpu import current_gpu_arch
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.engine import EngineDirectory
from python_backend.meter import Counts

needs_no_gpu = pytest.mark.skipif(
    current_gpu_arch() is not None, reason="about machines without a GPU"
)


@pytest.fixture(scope="module", params=["bf16", "fp16"])
def plans(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("plans") / request.param
    build(
        SHIPPED_CHECKPOINT,
        out,
        profile="gpu",
        precision=request.param,
        gpu_archs=("sm_89", "sm_120"),
    )
    return out


def test_manifest_says_what_the_plans_run_on(plans):
    manifest = Manifest.load(plans)
    assert (manifest.device, manifest.precision) == ("cuda", plans.name)
    recorded = manifest.builder["tensorrt"]
    assert (recorded["library"], recorded["gpu_archs"]) == ("tensorrt_rtx", ["sm_89", "sm_120"])
    assert {"vision_encoder.plan", "grounding.plan", EMBEDDINGS_NAME} <= set(manifest.files)
    assert not any(name.endswith((".onnx", ".data")) for name in manifest.files)
    assert "vision_encoder.plan" in manifest.encoder_identity["weights"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "1.0"}, r"built by tensorrt_rtx 1\.0, this machine has 1\.7"),
        ({"library": "tensorflow"}, "must be one of tensorrt, tensorrt_rtx, got 'tensorflow'"),
        (None, "does not say which TensorRT built its plans"),
    ],
)
def test_plans_of_another_library_are_refused(plans, tmp_path, change, message):
    out = shutil.copytree(plans, tmp_path / "engines")
    manifest = json.loads((out / "manifest.json").read_text())
    recorded = manifest["builder"]["tensorrt"]
    manifest["builder"]["tensorrt"] = None if change is None else {**recorded, **change}
    (out / "manifest.json").write_text(json.dumps(manifest))
    engine = EngineDirectory.load(out)
    with pytest.raises(EngineMismatchError, match=message):
        engine.open_encoder(num_threads=1)
    with pytest.raises(EngineMismatchError, match=message):
        engine.open_grounder(num_threads=1)


@needs_no_gpu
def test_plans_are_refused_without_their_gpu(plans):
    engine = EngineDirectory.load(plans)
    with pytest.raises(EngineMismatchError, match="sm_89, sm_120, this machine has no GPU"):
        engine.open_encoder(num_threads=1)


def test_a_check_that_fails_leaves_no_directory(tmp_path):
    def refuse(engine_dir):
        assert (engine_dir / "manifest.json").is_file()
        raise EngineMismatchError("differs")

    with pytest.raises(EngineMismatchError, match="differs"):
        build(SHIPPED_CHECKPOINT, tmp_path / "out", profile="cpu", check=refuse)
    assert not any(tmp_path.iterdir())


@needs_no_gpu
def test_without_a_gpu_the_architecture_must_be_named(tmp_path):
    with pytest.raises(UnsupportedError, match="build where the GPU is, or name gpu_archs"):
        build(SHIPPED_CHECKPOINT, tmp_path / "out", profile="gpu")


def test_tensorrt_llm_is_asked_for_before_anything_is_built(tmp_path):
    steps = []
    with pytest.raises(UnsupportedError, match=r"TensorRT-LLM 1\.2\.1, which is not installed"):
        build(SHIPPED_CHECKPOINT, tmp_path / "out", profile="gpu-trtllm", on_step=steps.append)
    assert steps == []


@pytest.mark.parametrize(
    ("precision", "features"), [(None, "FP16"), ("fp16", "FP16"), ("fp32", "FP32")]
)
def test_torch_is_built_for_a_gpu_anywhere(tmp_path, precision, features):
    manifest = build(
        SHIPPED_CHECKPOINT, tmp_path / "out", profile="torch", device="cuda", precision=precision
    )
    assert (manifest.device, manifest.precision) == ("cuda", precision or "bf16")
    config = (tmp_path / "out" / "model_repository" / "grounding" / "config.pbtxt").read_text()
    assert "KIND_GPU" in config
    assert f"data_type: TYPE_{features}" in config


@needs_no_gpu
def test_decoder_of_a_gpu_profile_is_not_another_one_without_a_gpu(plans):
    with (
        MediaWorkers(limits=Limits()) as workers,
        pytest.raises(EngineMismatchError, match="decodes on an NVIDIA GPU, this machine has none"),
    ):
        EngineDirectory.load(plans).open_decoder(workers, meter=Counts(), num_threads=1)

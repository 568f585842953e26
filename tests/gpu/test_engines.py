"""TensorRT plans of `digits`, built and run on this machine's GPU, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from engine_build import build
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.errors import UnsupportedError
from groundserve.runtime.gpu import current_gpu_arch
from groundserve.scoring.gate import check_engines
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.engine import EngineDirectory

pytestmark = pytest.mark.needs_gpu


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt_rtx"])
def gpu_archs(request, gpu) -> tuple[str, ...]:
    """What `build` is given to use this library."""
    archs = () if request.param == "tensorrt" else (current_gpu_arch() or "",)
    try:
        TensorRTTarget.choose(archs)
    except UnsupportedError as error:
        # tensorrt outside NVIDIA's containers, or a GPU that tensorrt_rtx does not build for.
        pytest.skip(str(error))
    return archs


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_plans_pass_the_gate(tmp_path, gpu_archs, precision):
    out = tmp_path / "engines"
    build(SHIPPED_CHECKPOINT, out, profile="gpu", precision=precision, gpu_archs=gpu_archs)
    report = check_engines(out, SHIPPED_CHECKPOINT, vision_tower=None)
    assert report.mask_probe > 0

    engine = EngineDirectory.load(out)
    model = engine.manifest.model
    encoder, grounder = engine.open_encoder(num_threads=1), engine.open_grounder(num_threads=1)
    frames = np.random.default_rng(0).integers(
        0, 256, (65, model.image_size, model.image_size, 3), dtype=np.uint8
    )
    pooling = np.full((1, 1, model.side), 1 / model.side, np.float32)
    features = encoder.encode(frames, pooling)  # one more than a run takes
    assert features.is_cuda
    assert features.shape == (65, 1, model.vision_hidden_size)
    logits = [grounder.ground(features, np.arange(n)) for n in (1, 200, 1)]
    np.testing.assert_array_equal(logits[0], logits[2])
    assert not np.array_equal(logits[0], logits[1])

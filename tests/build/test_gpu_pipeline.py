"""The stages of `gpu-trt` put together: DALI, both engines' arithmetic, the cache between them.

The plans' own modules run in PyTorch on the CPU where TensorRT would run the plans.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine_build.families.videoitg.mixed_precision import MixedTokenScorer, MixedVisionEncoder
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.embeddings import read_embeddings, write_embeddings
from groundserve.options import ScoreOptions
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.decode import DaliDecoder
from python_backend.encode import TensorRTEncoder
from python_backend.ground import EngineGrounder, TensorRTTokenScorer
from python_backend.pipeline import Pipeline
from tests.media_assets import VP9, asset_maker

QUERIES = ["Find the one.", "When does something move left?"]
OPTIONS = ScoreOptions(sampling="infer", sample_fps=25, num_frames=72)


class ModuleRunner:
    """What PlanRunner does, with the module that the plan was exported from."""

    device = torch.device("cpu")

    def __init__(self, module, inputs, output, max_size):
        self.module, self.inputs, self.output, self.max_size = module, inputs, output, max_size

    def max_shape(self, name):
        assert name == self.inputs[0]
        return (self.max_size,)

    def run(self, inputs):
        assert list(inputs) == self.inputs
        assert len(inputs[self.inputs[0]]) <= self.max_size
        assert all(tensor.is_contiguous() for tensor in inputs.values())
        with torch.inference_mode():
            return {self.output: self.module(*inputs.values())}


@pytest.fixture(scope="module")
def fp32():
    with Pipeline.from_checkpoint(SHIPPED_CHECKPOINT) as pipeline:
        dali = DaliDecoder(
            image_size=pipeline.manifest.model.image_size,
            device="cpu",
            num_threads=1,
            fallback=pipeline.decoder,
        )
        yield replace(pipeline, decoder=dali)


@pytest.fixture(params=["bf16", "fp16"])
def engines(request, fp32, tmp_path):
    """The same pipeline with 16-bit stages and a cache."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[request.param]
    opened = Checkpoint.open(SHIPPED_CHECKPOINT)
    model = opened.load_grounding(dtype=dtype)
    write_embeddings(model, tmp_path / "embeddings.safetensors")
    vision = MixedVisionEncoder(opened.load_vision(), dtype=dtype)
    scorer = MixedTokenScorer(model, dtype=dtype, max_tokens=20_480)
    names = ["PIXELS", "POOL"]
    encoder = TensorRTEncoder(ModuleRunner(vision, names, "FEATURES", 32), names)
    runner = ModuleRunner(scorer, ["INPUTS_EMBEDS"], "TOKEN_SCORES", 20_480)
    front = read_embeddings(tmp_path / "embeddings.safetensors", device="cpu")
    grounder = EngineGrounder(front, TensorRTTokenScorer(runner))
    extractor = fp32.extractor
    cache = FeatureCache(CacheConfig(directory=tmp_path / "cache"), meter=extractor.meter)
    return replace(
        fp32,
        encoder=encoder,
        head=replace(fp32.head, grounder=grounder),
        extractor=replace(extractor, cache=cache),
    )


def test_sixteen_bit_stages_score_like_float32_and_the_cache_keeps_their_features(
    fp32, engines, tmp_path
):
    video = asset_maker(tmp_path)(VP9)
    expected = fp32.score(video, QUERIES, OPTIONS)
    cold = engines.score(video, QUERIES, OPTIONS)
    assert "decode" in cold.timing_ms
    again = engines.score(video, QUERIES, OPTIONS)
    assert "decode" not in again.timing_ms
    for number, query in enumerate(expected.queries):
        logits = cold.queries[number].frame_logits
        scale = max(1.0, np.abs(query.frame_logits).max())
        # The tolerance of the gate for bf16.
        assert 0 < np.abs(logits - query.frame_logits).max() / scale < 5e-2
        np.testing.assert_array_equal(again.queries[number].frame_logits, logits)
    assert np.array_equal(cold.frame_indices, expected.frame_indices)

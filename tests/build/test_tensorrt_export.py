"""The graphs for TensorRT: their numbers in ONNX Runtime and in PyTorch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engine_build.families.videoitg.mixed_precision import MixedTokenScorer, MixedVisionEncoder
from engine_build.onnx_tensorrt import export_mixed_vision_encoder, export_token_scorer
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.support.digits import digits_video
from tests.support.vision import vision_inputs

MAX_TOKENS = 512
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.open(SHIPPED_CHECKPOINT)


@pytest.fixture(scope="module")
def vision(checkpoint):
    return checkpoint.load_vision()


@pytest.fixture(scope="module")
def grounding(checkpoint):
    return checkpoint.load_grounding()


@pytest.fixture(scope="module")
def video(checkpoint):
    """Twelve frames, how they are pooled, and the ids of one question."""
    config, side = checkpoint.config, checkpoint.vision_config.side
    frames, texts = digits_video(checkpoint.vision_config.image_size, num_frames=12)
    grid = grid_side(len(frames), vision_token_num=config.vision_token_num, side=side)
    pool = torch.from_numpy(pooling_weights(grid, side=side)).expand(len(frames), -1, -1)
    tokenizer, pad = checkpoint.load_tokenizer()
    text_ids = QueryTokenizer(tokenizer, pad_token_id=pad).text_ids(texts[0])
    return SimpleNamespace(
        frames=torch.from_numpy(frames), pool=pool, text_ids=torch.from_numpy(text_ids)
    )


@pytest.fixture(scope="module")
def embeds(grounding, vision, video):
    """Visual and text embeddings of one question, float32 (S, D)."""
    with torch.inference_mode():
        visual = grounding.projector(vision(video.frames, video.pool)).flatten(0, 1)
        return torch.cat([visual, grounding.decoder.embed_tokens(video.text_ids)])


@pytest.fixture(scope="module")
def expected_scores(grounding, embeds):
    """What the model scores each token of `embeds`, float32 (S,)."""
    with torch.inference_mode():
        hidden_states = grounding.decoder(
            inputs_embeds=embeds[None],
            attention_mask={"full_attention": None},
            is_causal=False,
            use_cache=False,
        ).last_hidden_state
        return grounding.head(hidden_states[0]).squeeze(1)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory, vision, grounding):
    """Export a stage once for each precision and opset."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def export(stage, precision, opset=23):
        path = folder / f"{stage}_{precision}_{opset}.onnx"
        if path not in made:
            dtype = DTYPES[precision]
            if stage == "vision":
                model = MixedVisionEncoder(vision, dtype=dtype)
                export_mixed_vision_encoder(model, path, vision_inputs(model)[0], opset=opset)
            else:
                model = MixedTokenScorer(grounding, dtype=dtype, max_tokens=MAX_TOKENS)
                export_token_scorer(model, path, opset=opset)
            made[path] = onnx.load(path, load_external_data=False)
        return path, made[path]

    return export


def relative_error(got, expected):
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("opset", [23, 20])
def test_the_float32_graph_of_the_scorer_equals_pytorch(graphs, embeds, expected_scores, opset):
    path, _ = graphs("scorer", "fp32", opset)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"INPUTS_EMBEDS": embeds.numpy()})
    # float32 against float32; only the order of additions differs.
    assert relative_error(scores, expected_scores.numpy()) < 1e-4


@pytest.mark.parametrize("opset", [23, 20])
def test_the_float32_graph_of_vision_equals_pytorch(graphs, vision, video, opset):
    path, _ = graphs("vision", "fp32", opset)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {"PIXELS": video.frames.numpy(), "POOL": video.pool.contiguous().numpy()}
    (features,) = session.run(None, inputs)
    with torch.inference_mode():
        expected = vision(video.frames, video.pool).numpy()
    # float32 against float32; only the order of additions differs.
    assert relative_error(features, expected) < 1e-4


@pytest.mark.parametrize(
    ("precision", "vision_rms", "scorer_rms"), [("bf16", 6e-3, 6e-3), ("fp16", 8e-4, 8e-4)]
)
def test_digits_in_16_bit_stays_near_float32(
    vision, grounding, video, embeds, precision, vision_rms, scorer_rms
):
    def rms_error(got, expected):
        got, expected = got.float(), expected.float()
        return float((got - expected).square().mean().sqrt() / expected.square().mean().sqrt())

    def features(dtype):
        return MixedVisionEncoder(vision, dtype=dtype)(video.frames, video.pool)

    def logits(dtype):
        model = MixedTokenScorer(grounding, dtype=dtype, max_tokens=MAX_TOKENS)
        scores = model(embeds.to(model.dtype))[: -len(video.text_ids)]
        return scores.reshape(len(video.frames), -1).mean(dim=1)

    with torch.inference_mode():
        for of, most in ((features, vision_rms), (logits, scorer_rms)):
            assert 0 < rms_error(of(DTYPES[precision]), of(torch.float32)) < most

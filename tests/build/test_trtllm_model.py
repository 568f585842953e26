"""The TensorRT-LLM network under a double of its library, against the PyTorch model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.ground.tensorrt_llm import TensorRTLLMTokenScorer
from tests import fake_tensorrt_llm
from tests.fake_tensorrt_llm.engines import HostGpu, write_engine
from tests.support.reference import SET_1, SET_2

TINY = SET_1 / "videoitg-tiny"
# 2 frames of 4 tokens and 9 of text, 1 frame of 1 token and 1 of text, ...
SHAPES = [(2, 4, 9), (1, 1, 1), (12, 4, 16)]
# The double computes a float32 network in 64 bits and rounds once, where a score leaves it: by half
# a unit in the last place, so at most 2^-24 of the score. What 64 bits leave, of some thousand
# operations that lose 2^-53 each, is less than a thousandth of that.
ROUNDING = 1.001 * 2.0**-24


@pytest.fixture(autouse=True)
def _library(monkeypatch):
    fake_tensorrt_llm.install(monkeypatch)


def open_model(path=TINY, dtype=torch.float32):
    return Checkpoint.open(path).load_grounding(dtype=dtype)


def open_exact(path):
    """Return the PyTorch model in float64 throughout."""
    model = open_model(path, torch.float64)
    for norm in model.modules():
        if isinstance(norm, Qwen2RMSNorm):  # whose own forward computes in float32
            norm.forward = lambda x, norm=norm: F.rms_norm(
                x, norm.weight.shape, norm.weight, norm.variance_epsilon
            )
    return model


def make_requests(model):
    """Return (features, text_ids) for each of SHAPES."""
    generator = torch.Generator().manual_seed(0)
    width, vocabulary = model.vision_hidden_size, model.decoder.config.vocab_size
    return [
        (
            torch.randn(frames, tokens, width, generator=generator),
            torch.randint(0, vocabulary, (text,), generator=generator),
        )
        for frames, tokens, text in SHAPES
    ]


def embed(model, features, text_ids):
    with torch.inference_mode():
        visual = model.projector(features).flatten(0, 1)
        return torch.cat([visual, model.decoder.embed_tokens(text_ids)])


def score_exactly(model, features, text_ids):
    """Return float32 embeddings (S, D), and the float64 scores (S,) of those by the model."""
    seen = {}

    def round_embeddings(_decoder, _args, kwargs):
        seen["embeds"] = kwargs["inputs_embeds"].float()
        return (), {**kwargs, "inputs_embeds": seen["embeds"].double()}

    def keep_hidden_states(_decoder, _args, output):
        seen["hidden_states"] = output.last_hidden_state

    hooks = (
        model.decoder.register_forward_pre_hook(round_embeddings, with_kwargs=True),
        model.decoder.register_forward_hook(keep_hidden_states),
    )
    with torch.inference_mode():
        model(features.double(), text_ids)
        scores = model.head(seen["hidden_states"])
    for hook in hooks:
        hook.remove()
    return seen["embeds"][0], scores[0, :, 0]


def frame_logits(token_scores, features):
    num_frames, tokens_per_frame, _ = features.shape
    return token_scores[: num_frames * tokens_per_frame].reshape(num_frames, -1).mean(dim=1)


def largest_error(path, engine_dir):
    """Score SHAPES; return the largest error, as a part of the largest score."""
    model = open_exact(path)
    exact = [score_exactly(model, *request) for request in make_requests(model)]
    scorer = TensorRTLLMTokenScorer(engine_dir, gpu=HostGpu())
    found = torch.cat([scorer.score(embeds) for embeds, _ in exact])
    expected = torch.cat([scores for _, scores in exact])
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(TINY, id="tiny"),
        pytest.param(SET_2 / "videoitg-pad-bang", id="pad_bang"),
        pytest.param(SET_2 / "videoitg-pad-endoftext", id="pad_endoftext"),
        pytest.param(SHIPPED_CHECKPOINT, id="digits"),
    ],
)
def test_scores_equal_the_pytorch_models(path, tmp_path):
    engine_dir = write_engine(Checkpoint.open(path), tmp_path)
    assert largest_error(path, engine_dir) < ROUNDING


def test_bfloat16_engine_is_as_near_float64_as_bfloat16_pytorch(tmp_path):
    opened = Checkpoint.open(SHIPPED_CHECKPOINT)
    engine_dir = write_engine(opened, tmp_path, precision="bf16")
    scorer = TensorRTLLMTokenScorer(engine_dir, gpu=HostGpu())
    exact, narrow = open_exact(SHIPPED_CHECKPOINT), open_model(SHIPPED_CHECKPOINT, torch.bfloat16)
    errors = {"engine": [], "pytorch": []}
    for features, text_ids in make_requests(exact):
        request = (features.bfloat16(), text_ids)
        scores = scorer.score(embed(narrow, *request))
        with torch.inference_mode():
            expected = exact(features.double(), text_ids)
            errors["engine"].append(frame_logits(scores, features) - expected)
            errors["pytorch"].append(narrow(*request) - expected)
    engine, pytorch = (torch.cat(e).square().mean().sqrt() for e in errors.values())
    # The same weights, rounded to the same 8 bits after nearly the same operations: errors of one
    # size, though not the same ones. An engine in float32 would have 2^-15 of them.
    assert pytorch / 2 < engine < 2 * pytorch


@pytest.mark.parametrize("index", range(len(SHAPES)))
def test_last_token_moves_the_first_score(index, tmp_path):
    model = open_model()
    sequence = embed(model, *make_requests(model)[index])
    scorer = TensorRTLLMTokenScorer(write_engine(Checkpoint.open(TINY), tmp_path), gpu=HostGpu())
    changed = sequence.clone()
    changed[-1] += 1
    before = scorer.score(sequence)
    assert (before - scorer.score(changed))[0].abs() > 1000 * ROUNDING * before.abs().max()

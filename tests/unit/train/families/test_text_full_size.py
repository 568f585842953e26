"""The stages of families that answer in text at their published sizes, on the meta device."""

import copy
import re
from pathlib import Path

import pytest

from groundserve.families.grounded_videollm.vision import VisionConfig
from groundserve.families.vtgllm.config import VTGLLMConfig
from tests.support import published
from tests.support.reference import REPOSITORY
from train.families import find_family
from train.families.grounded_videollm import model as grounded
from train.families.vtgllm import model as vtgllm
from train.families.vtimellm import family as vtimellm

PATHS = {name: Path(name) for name in ("init", "records", "media_root", "out")}
PAGE = (REPOSITORY / "docs" / "train.md").read_text("utf-8")
NUM_GPUS, GB = 8, 1e9
TABLES = 302  # rows that both tables of Grounded-VideoLLM's grow by
# What the references train, by the shapes in their files.
TRAINED = {
    ("vtimellm-1", "llama"): 3_149_824,
    ("vtimellm-2", "llama"): 159_907_840,
    ("vtimellm-3", "llama"): 159_907_840,
    ("grounded-videollm-pretrain", "phi3.5"): 35_794_944,
    ("grounded-videollm-grounded", "phi3.5"): 436_010_606,
    ("grounded-videollm-sft", "phi3.5"): 436_010_606,
    ("grounded-videollm-sft", "llama3"): 1_432_352_302,
    ("vtgllm-instruct", "llama"): 410_670_592,
}


def full_size(stage, llm):
    """Return a stage's config and model, tokens of its longest sample, weights of its towers."""
    config = find_family(None, stage).stages[stage](**PATHS)
    if stage.startswith("vtimellm"):
        width = published.VTIMELLM_CLIP.projection_dim
        model = vtimellm.empty_model(config, published.LLAMA_2, feature_width=width)
        return config, model, config.data.max_length - 1 + (1 if stage[-1] == "1" else 100), 0
    if stage.startswith("vtgllm"):
        decoder = copy.deepcopy(published.LLAMA_2)
        decoder.vocab_size += 12
        model, encoder = vtgllm.empty_model(
            config,
            decoder,
            described=VTGLLMConfig(max_frame_pos=96, max_time_pos=8192),
            eva=published.EVA,
            q_former=published.Q_FORMER,
        )
        num_tower_weights = sum(one.numel() for one in encoder.visual_encoder.parameters())
        return config, model, config.data.max_length + 255, num_tower_weights
    decoder = copy.deepcopy({"phi3.5": published.PHI_3_5, "llama3": published.LLAMA_3}[llm])
    if llm == "llama3":
        decoder.vocab_size = 128_256
    if config.adapter is not None:
        decoder.vocab_size += TABLES
    vision = VisionConfig(
        llm=llm,
        clip=published.GROUNDED_CLIP,
        internvideo2=published.INTERNVIDEO2,
        hidden_size=decoder.hidden_size,
    )
    per_segment = vision.num_spatial_tokens + vision.num_temporal_tokens + 1
    model = grounded.empty_model(config, decoder, vision)
    return config, model, config.data.max_length - 1 + 12 * per_segment, 1.3e9


@pytest.mark.parametrize(("stage", "llm"), TRAINED)
def test_what_is_trained_has_the_published_size(stage, llm):
    _, model, *_ = full_size(stage, llm)
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert trained == TRAINED[stage, llm]


def front_bytes(stage):
    """Return an upper bound for what the backward pass reads of VTG-LLM's Q-Former, in bf16."""
    if not stage.startswith("vtgllm"):
        return 0
    size, num_read = published.Q_FORMER, published.EVA.num_positions
    width, num_layers = size.hidden_size, size.num_hidden_layers
    of_queries = 32 * num_layers * (16 * width + 4 * size.intermediate_size)
    return 2 * 96 * (of_queries + num_read * num_layers // 2 * 3 * width)


def bytes_a_gpu(stage, llm):
    """Return an upper bound for the longest samples, by what takes it."""
    config, model, num_tokens, num_tower_weights = full_size(stage, llm)
    decoder = model.decoder.config
    width, inner, num_layers = (
        decoder.hidden_size,
        decoder.intermediate_size,
        decoder.num_hidden_layers,
    )
    total = sum(one.numel() for one in model.parameters())
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    of_layers = sum(one.numel() for one in model.decoder.layers.parameters())
    rows = config.batch_size * num_tokens
    targets = config.batch_size * config.data.max_length
    return {
        # float32: weights of all, gradients and two moments of what is trained
        "sharded": (4 * total + 12 * trained) / NUM_GPUS,
        # bf16: the inputs of each layer, and in one all that its backward pass reads
        "layers": 2 * rows * (num_layers * width + 8 * width + 4 * inner) + front_bytes(stage),
        # bf16: two layers, and what is no layer's, with gradients
        "gathered": 4 * (2 * of_layers / num_layers + total - of_layers),
        # bf16, and twice float32
        "logits": 10 * targets * decoder.vocab_size,
        "towers": 2 * num_tower_weights + 2e9 * (num_tower_weights > 0),
    }


@pytest.mark.parametrize(("stage", "llm"), TRAINED)
def test_a_stage_fits_the_documented_memory(stage, llm):
    held = bytes_a_gpu(stage, llm)
    cells = [f"{value / GB:.1f}" for value in held.values()]
    total = sum(held.values()) / GB
    row = f"| `{stage}`, {llm} | {' | '.join(cells)} | {total:.0f} |"
    assert row in re.sub(" +", " ", PAGE), row
    assert total < 80

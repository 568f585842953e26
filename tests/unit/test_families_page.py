"""What docs/families.md says of costs is what the code computes of the published sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import pytest

from engine_build.triton.__main__ import REFERENCE_MODEL
from groundserve.families import family_names, get_family
from groundserve.families.grounded_videollm import plan as grounded
from groundserve.families.grounded_videollm.vision import VisionConfig
from groundserve.families.text_checkpoint import causal_decoder_flop
from groundserve.families.videoitg.grid import grid_side
from groundserve.families.vtgllm.plan import VTGLLMSpec
from groundserve.families.vtgllm.times import LENGTH
from groundserve.families.vtimellm.plan import VTimeLLMSpec
from groundserve.options import DEFAULT_NUM_FRAMES
from tests.support import published
from tests.support.reference import REPOSITORY

PAGE = (REPOSITORY / "docs" / "families.md").read_text("utf-8")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a video that has frames enough."""

    vision_flop: float
    features: tuple[int, int, int]
    """Shape."""
    visual_tokens: str
    decoder_flop: float
    """Of these tokens."""
    kept_bytes: int | None
    """Keys and values of these tokens in 16 bits; None where one pass answers all."""

    def cells(self) -> list[str]:
        """Return them as the page has them."""
        units, tokens, width = self.features
        kept = "-" if self.kept_bytes is None else f"{self.kept_bytes / 1e6:,.0f} MB"
        return [
            f"{self.vision_flop / 1e12:.1f} TFLOP",
            f"{units} x {tokens} x {width}, {4 * prod(self.features) / 1e6:.1f} MB",
            self.visual_tokens,
            f"{self.decoder_flop / 1e12:.1f} TFLOP",
            kept,
        ]


def key_value_bytes(config: Any, num_tokens: int) -> int:
    head_size = config.hidden_size // config.num_attention_heads
    return 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * head_size * num_tokens


def videoitg() -> Cost:
    side = REFERENCE_MODEL.side
    budget = REFERENCE_MODEL.vision_token_num
    per_frame = grid_side(DEFAULT_NUM_FRAMES, vision_token_num=budget, side=side) ** 2
    num_tokens = DEFAULT_NUM_FRAMES * per_frame
    layers = published.SO400M.num_layers_used(published.VIDEOITG.mm_vision_select_layer)
    return Cost(
        vision_flop=DEFAULT_NUM_FRAMES * published.SO400M.frame_flop(layers),
        features=(DEFAULT_NUM_FRAMES, per_frame, REFERENCE_MODEL.feature_width),
        visual_tokens=f"{num_tokens:,}",
        decoder_flop=published.VIDEOITG.decoder_flop(num_tokens),
        kept_bytes=None,
    )


def vtimellm() -> Cost:
    spec = VTimeLLMSpec()
    return Cost(
        vision_flop=spec.num_frames * published.VTIMELLM_CLIP.flop(),
        features=(spec.num_frames, 1, spec.feature_width),
        visual_tokens=f"{spec.num_frames}",
        decoder_flop=causal_decoder_flop(published.LLAMA_2, spec.num_frames),
        kept_bytes=key_value_bytes(published.LLAMA_2, spec.num_frames),
    )


def vtgllm() -> Cost:
    spec = VTGLLMSpec()
    q_former = published.Q_FORMER.frame_flop(
        num_queries=spec.tokens_per_frame,
        num_text=0,
        num_read=published.EVA.num_positions,
        read_width=published.EVA.hidden_size,
    )
    visual, times = spec.num_visual_tokens(spec.num_frames), spec.num_frames * LENGTH
    return Cost(
        vision_flop=spec.num_frames * (published.EVA.flop() + q_former),
        features=(spec.num_frames, spec.tokens_per_frame, spec.feature_width),
        visual_tokens=f"{visual} and {times} of times",
        decoder_flop=causal_decoder_flop(published.LLAMA_2, visual + times),
        kept_bytes=key_value_bytes(published.LLAMA_2, visual + times),
    )


def grounded_videollm(spec: grounded.GroundedVideoLLMSpec, decoder: Any) -> Cost:
    vision = VisionConfig(
        llm=spec.llm,
        clip=published.GROUNDED_CLIP,
        internvideo2=published.INTERNVIDEO2,
        hidden_size=decoder.hidden_size,
    )
    assert vision.num_spatial_tokens == spec.num_spatial_tokens
    assert vision.num_temporal_tokens == spec.num_temporal_tokens
    num_tokens = spec.max_feature_tokens
    return Cost(
        vision_flop=spec.num_segments * vision.segment_flop(),
        features=(spec.num_segments, spec.tokens_per_segment, spec.feature_width),
        visual_tokens=f"{num_tokens:,}",
        decoder_flop=causal_decoder_flop(decoder, num_tokens),
        kept_bytes=key_value_bytes(decoder, num_tokens),
    )


COSTS = {
    f"`videoitg`, {DEFAULT_NUM_FRAMES} frames": videoitg(),
    "`vtimellm`, Vicuna": vtimellm(),
    "`vtgllm`, Llama-2": vtgllm(),
    "`grounded_videollm`, Phi-3.5": grounded_videollm(grounded.PHI_3_5, published.PHI_3_5),
    "`grounded_videollm`, Llama-3": grounded_videollm(grounded.LLAMA_3, published.LLAMA_3),
}


def rows() -> Iterator[str]:
    for name, cost in COSTS.items():
        yield f"| {' | '.join([name, *cost.cells()])} |"


@pytest.mark.parametrize("row", list(rows()))
def test_costs_are_those_of_the_code(row):
    assert row in PAGE.splitlines()


def test_every_family_that_is_served_is_compared():
    compared = {name.split("`")[1] for name in COSTS}
    assert compared == set(family_names())
    (reads,) = [part for part in PAGE.split("\n## ") if part.startswith("Which one")]
    for name in family_names():
        assert f"| `{name}` |" in reads
        tasks = getattr(get_family(name), "tasks", ())
        (row,) = [line for line in reads.splitlines() if line.startswith(f"| `{name}` |")]
        assert not {task for task in tasks if f"`{task}`" not in row}

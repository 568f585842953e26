"""A family of three blocks in a prompt, two feature tensors a video, and positions of its own.

VTimeLLM's decoder behind twelve frames. Before each block of four frames stand words; the rows of a
block are all at one position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from groundserve.families.base import TextFamily
from groundserve.families.plans import (
    DEFAULT_LIMITS,
    VISUAL_TOKEN_ID,
    FrameStream,
    Prompt,
    VideoPlan,
    units_of,
)
from groundserve.families.vtimellm import VTimeLLM
from groundserve.tokenizers.llama_tokenizer import LlamaTokenizer

NUM_UNITS, NUM_BLOCKS, SIZE = 12, 3, 8
MEANS, PEAKS = 3, 2
"""Widths of the two feature tensors."""
WORDS = ("At first ", "then ", "at last ")


@dataclass(frozen=True, kw_only=True)
class BlocksSpec:
    max_tokens: int | None
    hidden_size: int
    end_token_id: int
    feature_width: int = MEANS + PEAKS
    max_feature_tokens: int = 2 * NUM_UNITS


class BlocksTokenizer:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.end_ids = frozenset({tokenizer.end_id})

    def prompt(self, query, options, seen):
        rows = seen.num_visual_tokens // NUM_BLOCKS
        parts = [[self.tokenizer.begin_id]]
        for words in WORDS:
            parts += [self.tokenizer.encode(words), [VISUAL_TOKEN_ID]]
        token_ids = np.array([one for part in parts for one in part], np.int64)
        suffix = self.tokenizer.encode(f"{query} ASSISTANT:", plain_from=0)
        whole = np.append(token_ids, np.array(suffix, np.int64))
        # A block takes one position, whatever its rows.
        places = np.repeat(np.arange(len(whole)), np.where(whole == VISUAL_TOKEN_ID, rows, 1))
        return Prompt(token_ids=whole, num_prefix=len(token_ids), position_ids=places[None])

    def text(self, token_ids):
        return self.tokenizer.decode(token_ids).strip()


class BlocksFamily(VTimeLLM):
    name = "blocks"
    spec_type = BlocksSpec
    own_positions = True

    def streams(self, spec):
        return (FrameStream(name="FRAMES", size=SIZE),)

    def plan(self, index, options, spec, limits=DEFAULT_LIMITS):
        frame_indices = np.minimum(np.arange(NUM_UNITS), index.num_source_frames - 1)
        return VideoPlan(
            index=index,
            num_frames=NUM_UNITS,
            frame_indices=frame_indices,
            units=units_of(frame_indices),
            num_visual_tokens=spec.max_feature_tokens,
            time_range_seconds=(0.0, index.duration_seconds),
        )

    def open_tokenizer(self, path, spec):
        return BlocksTokenizer(LlamaTokenizer.from_file(path))

    def recognises(self, directory):
        return False

    def describe(self, facts):
        return "two tokens each"


FAMILY: TextFamily[BlocksSpec] = BlocksFamily()

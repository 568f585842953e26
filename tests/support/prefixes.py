"""What a text head of a pipeline computes of a recorded case: the video's prefix, step by step."""

from __future__ import annotations

from typing import Any

from groundserve.families.plans import Prompt, SeenVideo
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import Array
from python_backend.generate import Prefix, embed_prompt
from python_backend.heads import TextHead

SECONDS = 300.0


def video_prefix(
    head: TextHead, case: Any, features: Array, seen: SeenVideo, *, max_new_tokens: int = 0
) -> tuple[Prefix, Prompt]:
    """Return the prefix of a case's question, with room for an answer, and its prompt."""
    (prompt,) = head.parse([case.query], case.options).of(seen)
    front, decoder = head.generator.front, head.generator.decoder
    block = front.embed_video(features, head.family.front_arrays(seen, head.model))
    embeddings = embed_prompt(prompt.prefix_ids, [block], front)
    num_suffix = len(prompt.suffix_ids)
    prefix = Prefix.compute(
        embeddings,
        room=num_suffix + max_new_tokens,
        regime=decoder.regime(len(embeddings) + num_suffix),
        decoder=decoder,
        front=front,
        deadline=Deadline.after(SECONDS),
    )
    return prefix, prompt

"""The model of head "text": from FEATURES and questions to answers.

T frames as sampled, Q questions, n tokens of all answers, p of all prompts, m moments.
"""

from __future__ import annotations

from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.model_spec import TensorSpec, TritonModelSpec
from engine_build.triton.trunk import (
    FRAME_INDICES,
    OPTIONS,
    PTS_SECONDS,
    QUERY,
    STAGE_INFO,
    VIDEO,
    VIDEO_URI,
)

_ANSWERS = (
    TensorSpec("ANSWER", "STRING", (-1,)),  # (Q,)
    TensorSpec("TOKEN_IDS", "INT32", (-1,)),  # (n,)
    TensorSpec("TOKEN_OFFSETS", "INT64", (-1,)),  # (Q + 1,)
    TensorSpec("MOMENTS", "FP64", (-1, 3)),  # (m, 3)
    TensorSpec("MOMENT_OFFSETS", "INT64", (-1,)),  # (Q + 1,)
    TensorSpec("MOMENT_TEXTS", "STRING", (-1,)),  # (m,)
    TensorSpec("PROMPT_TOKEN_IDS", "INT32", (-1,)),  # (p,)
    TensorSpec("PROMPT_OFFSETS", "INT64", (-1,)),  # (Q + 1,)
    TensorSpec("INFO", "STRING", (1,)),
)


def ensemble(name: str, steps: tuple[TritonModelSpec, ...]) -> TritonModelSpec:
    """The public model, by the family's name: a video and questions -> answers."""
    return TritonModelSpec(
        name=name,
        inputs=(VIDEO, VIDEO_URI, QUERY, OPTIONS),
        outputs=(FRAME_INDICES, PTS_SECONDS, *_ANSWERS),
        steps=steps,
    )


def generation(layout: RepositoryLayout, features: TensorSpec) -> TritonModelSpec:
    """Features and questions -> answers."""
    return TritonModelSpec(
        name="generation",
        inputs=(features, QUERY, OPTIONS, STAGE_INFO),
        outputs=_ANSWERS,
        device=layout.target.device,
        num_instances=layout.num_grounders,
        # No queue policy, for the reasons of `frames_head.grounding`.
    )

"""What the model of head "text" adds: from FEATURES and prompts to answers.

Q questions, n tokens of all answers, p of all prompts, m moments.
"""

from __future__ import annotations

from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.model_spec import TensorSpec, TritonModelSpec
from engine_build.triton.trunk import FRAME_INDICES, INFO, PTS_SECONDS

_TOKENS = (
    TensorSpec("TOKEN_IDS", "INT32", (-1,)),  # (n,)
    TensorSpec("TOKEN_OFFSETS", "INT64", (-1,)),  # (Q + 1,)
)
OUTPUTS = (
    FRAME_INDICES,
    PTS_SECONDS,
    TensorSpec("ANSWER", "STRING", (-1,)),  # (Q,)
    *_TOKENS,
    TensorSpec("MOMENTS", "FP64", (-1, 3)),  # (m, 3)
    TensorSpec("MOMENT_OFFSETS", "INT64", (-1,)),  # (Q + 1,)
    TensorSpec("MOMENT_TEXTS", "STRING", (-1,)),  # (m,)
    TensorSpec("PROMPT_TOKEN_IDS", "INT32", (-1,)),  # (p,)
    TensorSpec("PROMPT_OFFSETS", "INT64", (-1,)),  # (Q + 1,)
    INFO,
)
"""Of the public model."""


def generation(layout: RepositoryLayout, features: TensorSpec) -> TritonModelSpec:
    """Features and prompts -> the tokens of the answers."""
    return TritonModelSpec(
        name="generation",
        inputs=(
            features,
            TensorSpec("PROMPT_IDS", "INT64", (-1,)),  # (p,)
            TensorSpec("PROMPT_OFFSETS", "INT64", (-1,)),  # (Q + 1,)
            TensorSpec("JOB", "STRING", (1,)),  # JSON: what is to be generated
        ),
        outputs=(*_TOKENS, TensorSpec("GENERATION", "STRING", (1,))),
        device=layout.target.device,
        num_instances=layout.num_grounders,
        # No queue policy, for the reasons of `frames_head.grounding`.
    )

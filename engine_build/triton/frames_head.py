"""What the model of head "frames" adds: from FEATURES and questions to one logit a frame.

T sampled frames, Q questions, K' selected frames, L tokens of all questions.
"""

from __future__ import annotations

from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.model_spec import TensorSpec, TritonModelSpec
from engine_build.triton.trunk import FRAME_INDICES, INFO, PTS_SECONDS

_FRAME_LOGITS = TensorSpec("FRAME_LOGITS", "FP32", (-1, -1))  # (Q, T)
OUTPUTS = (
    FRAME_INDICES,
    PTS_SECONDS,
    _FRAME_LOGITS,
    TensorSpec("FRAME_SCORES", "FP32", (-1, -1)),  # (Q, T)
    TensorSpec("SELECTED_FRAMES", "INT64", (-1, -1)),  # (Q, K')
    INFO,
)
"""Of the public model."""


def grounding(layout: RepositoryLayout, features: TensorSpec) -> TritonModelSpec:
    """Features and questions -> logits."""
    return TritonModelSpec(
        name="grounding",
        inputs=(
            features,
            TensorSpec("TEXT_IDS", "INT64", (-1,)),  # (L,)
            TensorSpec("TEXT_OFFSETS", "INT64", (-1,)),  # (Q + 1,)
        ),
        outputs=(_FRAME_LOGITS,),
        device=layout.target.device,
        num_instances=layout.num_grounders,
        # No queue policy, as for `front`, which itself bounds who waits; the request's deadline
        # is looked at when its turn comes. A queue with one hands a waiting request on when the
        # next arrives or half a second has passed, not when the instance becomes free
        # (triton-inference-server/core 73aad7c, src/scheduler_utils.cc, `PriorityQueue`, and
        # src/dynamic_batch_scheduler.cc, `WaitForPayloadSlotAvailable`).
    )

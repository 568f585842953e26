"""The models of head "frames": from FEATURES and questions to one logit a frame.

T sampled frames, Q questions, K' selected frames.
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

_FRAME_LOGITS = TensorSpec("FRAME_LOGITS", "FP32", (-1, -1))  # (Q, T)
_FRAME_SCORES = TensorSpec("FRAME_SCORES", "FP32", (-1, -1))  # (Q, T)
_SELECTED_FRAMES = TensorSpec("SELECTED_FRAMES", "INT64", (-1, -1))  # (Q, K')
_STAGE_INFO_2 = TensorSpec("STAGE_INFO_2", "STRING", (1,))
_INFO = TensorSpec("INFO", "STRING", (1,))


def ensemble(name: str, steps: tuple[TritonModelSpec, ...]) -> TritonModelSpec:
    """The public model, by the family's name: a video and questions -> scores."""
    return TritonModelSpec(
        name=name,
        inputs=(VIDEO, VIDEO_URI, QUERY, OPTIONS),
        outputs=(
            FRAME_INDICES,
            PTS_SECONDS,
            _FRAME_LOGITS,
            _FRAME_SCORES,
            _SELECTED_FRAMES,
            _INFO,
        ),
        steps=steps,
    )


def grounding(layout: RepositoryLayout, features: TensorSpec) -> TritonModelSpec:
    """Features and questions -> logits."""
    return TritonModelSpec(
        name="grounding",
        inputs=(features, QUERY, STAGE_INFO),
        outputs=(_FRAME_LOGITS, _STAGE_INFO_2),
        device=layout.target.device,
        num_instances=layout.num_grounders,
        # No queue policy, so that no video is decoded in vain, and because a queue with one hands a
        # waiting request on when the next arrives or half a second has passed, not when the
        # instance becomes free (triton-inference-server/core 73aad7c, src/scheduler_utils.cc,
        # `PriorityQueue`, and src/dynamic_batch_scheduler.cc, `WaitForPayloadSlotAvailable`). The
        # door bounds who waits, and the request's deadline is looked at when its turn comes.
    )


def frame_selector() -> TritonModelSpec:
    """Logits -> scores and the frames to keep."""
    return TritonModelSpec(
        name="frame_selector",
        inputs=(_FRAME_LOGITS, FRAME_INDICES, PTS_SECONDS, OPTIONS, _STAGE_INFO_2),
        outputs=(_FRAME_SCORES, _SELECTED_FRAMES, _INFO),
    )

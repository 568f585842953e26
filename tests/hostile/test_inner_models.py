"""Inner models work for `front` alone: what is checked of a request is checked there."""

from __future__ import annotations

import numpy as np
import pytest

from tests.triton.protocol import RejectedError, texts

INNER = {
    "video_decode": {
        "SEGMENTS": texts("/etc/passwd"),
        "SEGMENT_OFFSETS": np.array([0, 10]),
        "LOCAL_FRAMES": np.zeros(1, np.int32),
        "LOCAL_OFFSETS": np.array([0, 1]),
        "STREAM": texts("{}"),
    },
    "vision_encoder": {
        "PIXELS": np.zeros((2, 112, 112, 3), np.uint8),
        "POOL": np.zeros((2, 2, 8), np.float32),
    },
    "grounding": {
        "FEATURES": np.zeros((3, 1, 48), np.float32),
        "TEXT_IDS": np.zeros(1, np.int64),
        "TEXT_OFFSETS": np.array([0, 1]),
    },
}
FOREIGN = RejectedError(
    "UNSUPPORTED",
    "this model works for the server's own models only; call the model that is named after the "
    "family, or front",
)
GONE = RejectedError("CANCELLED", "nobody waits for the answer any more")


@pytest.mark.parametrize("model", INNER)
@pytest.mark.parametrize(
    ("parameters", "refusal"),
    [
        ({}, FOREIGN),
        ({"cancellation": "../" * 8}, FOREIGN),
        ({"cancellation": "0" * 32}, GONE),
    ],
    ids=["nothing", "no_token", "made_up"],
)
def test_inner_models_work_for_nobody_else(grpc, model, parameters, refusal):
    with pytest.raises(RejectedError) as caught:
        grpc.infer(model, INNER[model], parameters=parameters)
    assert caught.value == refusal

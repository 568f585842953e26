"""Frames of different requests share executions of the vision encoder."""

from __future__ import annotations

import time

from tests.triton.answers import FREE_BOX
from tests.triton.serve import in_parallel

WAIT_SECONDS = 60.0


def test_waiting_requests_are_encoded_together(served, grpc, clips):
    """That they score as alone, `test_scoring.py` tests."""

    def counts() -> tuple[int, int]:
        stats = grpc.client.get_inference_statistics("vision_encoder").model_stats[0]
        return stats.inference_count, stats.execution_count

    frames, executions = counts()
    video, give_up_at = clips["vfr"].read_bytes(), time.monotonic() + WAIT_SECONDS
    num_asked = 0
    # Who comes while the encoder works waits, and all who wait are one batch.
    while counts()[1] - executions == num_asked:
        assert time.monotonic() < give_up_at
        in_parallel(16, lambda number: served.send(video + number * FREE_BOX, "When?"), range(16))
        num_asked += 16
        # The server counts after it has answered: every frame, four a request.
        while counts()[0] - frames < 4 * num_asked:
            assert time.monotonic() < give_up_at

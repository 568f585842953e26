"""Frames of different requests share executions of the vision encoder."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from groundserve.families.videoitg.grid import pooling_weights
from tests.support.exact import open_float64
from tests.support.reference import SET_1
from tests.support.rounding import in_float32
from tests.triton.protocol import Protocol, RejectedError


def counts(protocol, *, at_least: int = 0) -> tuple[int, int]:
    """Frames encoded so far, and executions they took; the server counts after it has answered."""
    give_up_at = time.monotonic() + 30
    before = None
    while True:
        stats = protocol.client.get_inference_statistics("vision_encoder").model_stats[0]
        now = stats.inference_count, stats.execution_count
        is_settled = now == before and now[0] >= at_least
        if is_settled or time.monotonic() > give_up_at:
            return now
        before = now
        time.sleep(0.2)


def test_waiting_requests_are_encoded_together_and_a_bad_one_fails_alone(grpc, server, pipeline):
    rng = np.random.default_rng(0)
    pooling = pooling_weights(2, side=pipeline.manifest.model.side)
    # Two full batches keep the encoder busy while the small requests queue up.
    batches = [
        rng.integers(0, 256, (num_frames, 112, 112, 3), np.uint8)
        for num_frames in (64, 64, *[5] * 8)
    ]
    # A client's own weights may read all rows of patches, of which the grid's read half.
    weights = [pooling] * len(batches)
    weights[3], weights[7] = rng.normal(size=(2, *pooling.shape)).astype(np.float32)
    bad = 5

    def encode(number):
        protocol = Protocol("grpc", server.grpc_address)
        frames = batches[number]
        pool = np.stack([weights[number]] * len(frames))
        pool[-1] *= 0.5 if number == bad else 1
        try:
            return protocol.infer("vision_encoder", {"PIXELS": frames, "POOL": pool})["FEATURES"]
        except RejectedError as error:
            return error
        finally:
            protocol.client.close()

    frames_before, executions_before = counts(grpc)
    with ThreadPoolExecutor(len(batches)) as pool:
        answers = list(pool.map(encode, range(len(batches))))
    num_frames = sum(map(len, batches))
    frames_after, executions_after = counts(grpc, at_least=frames_before + num_frames)
    # Of a batch that was executed, the server counts every frame, also those of the bad request.
    assert frames_after - frames_before == num_frames
    assert executions_after - executions_before < len(batches)
    rejection = RejectedError("INVALID_ARG", "POOL must be finite and the same for all frames")
    assert answers.pop(bad) == rejection
    del batches[bad], weights[bad]
    vision = open_float64(SET_1 / "videoitg-tiny").vision
    for frames, one, features in zip(batches, weights, answers, strict=True):
        # float32; a larger batch may add in another order.
        pool = torch.from_numpy(one).double().expand(len(frames), -1, -1)
        inputs = torch.from_numpy(frames), pool
        expected, bound = in_float32(vision, *inputs)
        np.testing.assert_allclose(features, expected, rtol=0, atol=bound)

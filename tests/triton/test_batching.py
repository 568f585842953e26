"""Frames of different requests share executions of the vision encoder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from engine_build.triton.specs import MAX_ENCODER_BATCH
from groundserve.grid import pooling_weights
from python_backend.features import CHUNK_FRAMES
from tests.triton.protocol import Protocol


def counts(protocol) -> tuple[int, int]:
    """Frames encoded so far, and executions they took."""
    answer = protocol.client.get_inference_statistics("vision_encoder", as_json=True)
    stats = answer["model_stats"][0]
    return int(stats["inference_count"]), int(stats["execution_count"])


def test_a_chunk_fits_one_encoder_batch():
    assert CHUNK_FRAMES <= MAX_ENCODER_BATCH


def test_frames_of_waiting_requests_are_encoded_together(grpc, server, pipeline):
    rng = np.random.default_rng(0)
    pooling = pooling_weights(2, side=pipeline.manifest.model.side)
    # Two full batches keep the encoder busy while the small requests queue up.
    batches = [
        rng.integers(0, 256, (num_frames, 112, 112, 3), np.uint8)
        for num_frames in (64, 64, *[5] * 8)
    ]

    def encode(frames):
        protocol = Protocol("grpc", server.grpc_address)
        inputs = {"PIXELS": frames, "POOL": np.stack([pooling] * len(frames))}
        try:
            return protocol.infer("vision_encoder", inputs)["FEATURES"]
        finally:
            protocol.client.close()

    frames_before, executions_before = counts(grpc)
    with ThreadPoolExecutor(len(batches)) as pool:
        features = list(pool.map(encode, batches))
    frames_after, executions_after = counts(grpc)
    assert frames_after - frames_before == sum(map(len, batches))
    assert executions_after - executions_before < len(batches)
    for frames, got in zip(batches, features, strict=True):
        # float32; a larger batch may add in another order.
        np.testing.assert_allclose(got, pipeline.encoder.encode(frames, pooling), atol=1e-5)

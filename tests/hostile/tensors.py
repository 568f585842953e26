"""Tensors that the inner models take; a test changes some of them."""

from __future__ import annotations

import json

import numpy as np

from tests.triton.protocol import texts, upload


def stream(**changes):
    """The tensor STREAM; a value may be changed to anything."""
    fields = {
        "codec_name": "h264",
        "pixel_format": "yuv420p",
        "width": 96,
        "height": 64,
        "rotation": 0,
        "frame_counts": [2**31 - 1],
    }
    return texts(json.dumps({**fields, **changes}))


STAGE_INFO = texts('{"timing_ms": {}}')
FEATURES = np.zeros((3, 1, 48), np.float32)
SEGMENTS = {
    "SEGMENTS": upload(b"0123456789"),
    "SEGMENT_OFFSETS": np.array([0, 10]),
    "LOCAL_FRAMES": np.array([0], np.int32),
    "LOCAL_OFFSETS": np.array([0, 1]),
    "STREAM": stream(),
}
GROUNDING = {"FEATURES": FEATURES, "QUERY": texts("When?"), "STAGE_INFO": STAGE_INFO}
SELECTION = {
    "FRAME_LOGITS": np.zeros((1, 3), np.float32),
    "FRAME_INDICES": np.arange(3),
    "PTS_SECONDS": np.arange(3.0),
    "STAGE_INFO_2": STAGE_INFO,
}
ENCODING = {
    "PIXELS": np.zeros((2, 112, 112, 3), np.uint8),
    "POOL": np.zeros((2, 2, 8), np.float32),
}
INTACT = {
    "video_decode": SEGMENTS,
    "vision_encoder": ENCODING,
    "grounding": GROUNDING,
    "frame_selector": SELECTION,
    "video_features": {},
}

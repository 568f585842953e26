"""A video's index and the manifest of engines that nobody built."""

from __future__ import annotations

import numpy as np

from groundserve._version import __version__
from groundserve.engines.manifest import FORMAT_VERSION, Manifest
from groundserve.families.videoitg.plan import VideoITGSpec
from groundserve.media import VideoIndex

INDEX = VideoIndex(
    average_fps=25.0,
    pts_seconds=np.arange(4) / 25,
    is_key=np.array([True, False, False, False]),
    width=64,
    height=48,
    codec_name="h264",
    container_name="mov",
)
MANIFEST = Manifest(
    format_version=FORMAT_VERSION,
    family="videoitg",
    groundserve_version=__version__,
    profile="cpu",
    device="cpu",
    precision="fp32",
    model=VideoITGSpec(
        image_size=112,
        side=8,
        vision_hidden_size=4,
        vision_token_num=256,
        max_tokens=None,
        pad_token_id=0,
    ),
    checkpoint={"name": "a", "sha256": "1"},
    source_config={},
    builder={},
    files={"vision_encoder.onnx": "1", "grounding.onnx": "1"},
)

"""What the tests of this folder make records and media with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from train.config import DataConfig, Stage
from train.data.reader import FrameReader
from train.families.videoitg.samples import Samples

IMAGE_SIZE = 32
SIDE = 4
GRAY_STEP = 8
"""Frame i of a video is gray, of this value times i, modulo 256."""


def open_reader(media_root: Path, **changes: Any) -> FrameReader:
    """Return what reads media, sampled by VideoITG's rule."""
    values: dict[str, Any] = {"max_frames": 1024, "num_workers": 1, **changes}
    unused = {"records": media_root, "template": "plain", "vision_token_num": 1, "max_length": 1}
    config = DataConfig(media_root=media_root, vision_min_num=1, **unused, **values)
    format = SimpleNamespace(image_size=IMAGE_SIZE, rule=Samples.rule, sample=Samples.sample)
    return FrameReader(config, format)


def make_format(config: DataConfig, tokenizer: Tokenizer, *, stage: Stage) -> Samples:
    """Return the format of frames and patches of the sizes above."""
    return Samples(
        config,
        stage=stage,
        tokenizer=tokenizer,
        pad_token_id=tokenizer.token_to_id("!"),
        image_size=IMAGE_SIZE,
        side=SIDE,
    )


def write_video(path: Path, *, num_frames: int, fps: int = 10) -> None:
    """Write 64x64 H.264."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(num_frames):
            gray = np.full((64, 64, 3), GRAY_STEP * i % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        container.mux(stream.encode())


def source_frames(frames: NDArray[np.uint8]) -> list[int]:
    """Return which source frames of `write_video` these are, modulo 256 / `GRAY_STEP`."""
    return [round(float(frame.mean()) / GRAY_STEP) for frame in frames]


def question(video: str, text: str = "What?", **fields: Any) -> dict[str, Any]:
    """Return a record of stage 4."""
    return {"video": video, "question": f"<image>\n{text}", "frame_num": [], **fields}


def conversation(*texts: str, **fields: Any) -> dict[str, Any]:
    """Return a record of stages 1 to 3; the human begins."""
    messages = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]
    return {"conversations": messages, **fields}

"""VTimeLLM from a file to pixels, against what its reference computed of the same files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine_build.onnx_export import export_vision_graph
from groundserve.families import get_family
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.decode import PyAVDecoder
from python_backend.encode import EncodeFunction, OnnxRuntimeEncoder
from python_backend.features import FeatureExtractor
from python_backend.meter import Counts
from tests.support.reference import REPOSITORY

FOLDER = REPOSITORY / "tests" / "fixtures" / "vtimellm"
CASES = json.loads((FOLDER / "cases.json").read_text("utf-8"))
FAMILY = get_family("vtimellm")
VIDEOS = CASES["videos"]


def load_vision() -> Any:
    return FAMILY.open_checkpoint(FOLDER / "checkpoints").load_vision()


@pytest.fixture(scope="module")
def extract(clips: dict[str, Path]):
    opened = FAMILY.open_checkpoint(FOLDER / "checkpoints")
    spec = opened.model_spec(pad_token_id=0)
    manifest = SimpleNamespace(seam=FAMILY, model=spec, identity={})
    streams = VisionInputs.of(FAMILY, spec).streams
    paths = {**clips, "portrait_57": FOLDER / "videos" / "portrait_57.mp4"}
    limits = Limits()

    def extract(key: str, encode: EncodeFunction) -> None:
        counts, deadline = Counts(), Deadline.after(300)
        split = VIDEOS[key]["split_seconds"]
        options = AnswerOptions(clip_seconds=tuple(split) if split else None)
        with (
            MediaWorkers(limits=limits) as readers,
            MediaWorkers(limits=limits) as workers,
            VideoSource.from_path(paths[VIDEOS[key]["video"]], limits=limits) as source,
        ):
            decoder = PyAVDecoder(workers, streams=streams, meter=counts)
            extractor = FeatureExtractor(
                workers=readers, manifest=manifest, limits=limits, cache=None, meter=counts
            )
            extractor.extract(
                source,
                options,
                asked=None,
                decode=lambda segments, shown: decoder.decode(
                    segments, shown=shown, deadline=deadline
                ),
                encode=encode,
                deadline=deadline,
            )

    return extract


class RecordedPixels:
    """In the place of an encoder: keeps the pixels in the order they come."""

    def __init__(self, make_pixels: EncodeFunction):
        self.make_pixels = make_pixels
        self.parts: list[NDArray[np.float16]] = []

    def encode(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        for start in range(0, len(frames), 8):
            pixels = self.make_pixels(frames[start : start + 8])
            self.parts.append(np.asarray(pixels).astype(np.float16))
        return np.zeros((len(frames), 1, 32), np.float32)

    @property
    def pixels(self) -> NDArray[np.float16]:
        return np.concatenate(self.parts)


@pytest.fixture(scope="module")
def exact_pixels(extract):
    """Of a video, made once."""
    made: dict[str, NDArray[np.float16]] = {}
    module = load_vision().pixel_values

    def make(frames):
        with torch.inference_mode():
            return module(torch.from_numpy(frames)).numpy()

    def pixels(key):
        if key not in made:
            recorded = RecordedPixels(make)
            extract(key, recorded.encode)
            made[key] = recorded.pixels
        return made[key]

    return pixels


@pytest.mark.parametrize("key", VIDEOS)
def test_pixels_in_pytorch_are_bit_equal(exact_pixels, key):
    recorded = VIDEOS[key]["pixel_values"]
    pixels = exact_pixels(key)
    assert list(pixels.shape) == recorded["shape"]
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == recorded["sha256_float16"]


@pytest.fixture(scope="module")
def onnx_pixels(tmp_path_factory: pytest.TempPathFactory) -> OnnxRuntimeEncoder:
    path = tmp_path_factory.mktemp("vtimellm") / "pixels.onnx"
    vision = load_vision()
    vision.prepare_export()
    vision.leave_out_unread()
    inputs = VisionInputs(streams=FAMILY.streams(None), plan_inputs=())
    export_vision_graph(vision.pixel_values, path, inputs)
    return OnnxRuntimeEncoder(path, num_threads=2)


@pytest.mark.parametrize("key", VIDEOS)
def test_pixels_of_the_graph_are_within_one_step_of_float16(
    extract, exact_pixels, onnx_pixels, key
):
    recorded = RecordedPixels(onnx_pixels.encode)
    extract(key, recorded.encode)
    found, expected = recorded.pixels.astype(np.float64), exact_pixels(key).astype(np.float64)
    step = np.spacing(np.maximum(np.abs(recorded.pixels), np.abs(exact_pixels(key))))
    # Near 0 float16 is finer than float32 was before means were taken off: rounding of a sum of 16
    # products whose weights add up to less than 3 in magnitude, over the smallest deviation.
    float32 = 2.0**-24 * 2 * 16 * 3 / 0.26130258
    assert (np.abs(found - expected) <= step + float32).all()

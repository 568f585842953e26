"""The pixels that three references made of whole videos, each by its resize rule, bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.limits import Limits
from groundserve.media import MediaWorkers, OpenVideo, ResizeRule, VideoSource
from groundserve.media._resize import resize_short_side
from groundserve.runtime.deadline import Deadline

FIXTURES = Path(__file__).parents[2] / "fixtures"
CLIPS = {
    "portrait_57": FIXTURES / "vtimellm_ref" / "videos" / "portrait_57.mp4",
    "short_41f": FIXTURES / "vtgllm_ref" / "clips" / "short_41f.mp4",
}

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)

Case = dict[str, Any]
OpenCase = Callable[[Case], Any]


def recorded(folder: str) -> dict[str, Case]:
    cases: dict[str, Case] = json.loads((FIXTURES / folder / "pixels.json").read_text("utf-8"))
    return cases


def each_of(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "case", [pytest.param(c, id=k) for k, c in recorded(folder).items()]
    )


@pytest.fixture
def open_case(
    clips: dict[str, Path], workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> OpenCase:
    """Open a case's video, which must be the file that the reference read."""

    @contextmanager
    def opened(case: Case) -> Iterator[OpenVideo]:
        path = (clips | CLIPS)[case["video"]]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == case["file_sha256"]
        with (
            VideoSource.from_path(path, limits=limits) as source,
            workers.open(source, deadline=deadline) as video,
        ):
            assert video.index.num_source_frames == case["num_source_frames"]
            yield video

    return opened


def decode(
    video: OpenVideo,
    frame_indices: list[int],
    image_size: int | None = None,
    resize: ResizeRule = "square",
) -> Iterable[NDArray[np.uint8]]:
    """Yield uint8 (H, W, 3) for each ordinal, repeats decoded once."""
    once, places = np.unique(frame_indices, return_inverse=True)
    frames = video.decode(video.cut(once), image_size=image_size, resize=resize)
    return (frames[place] for place in places)


def normalize(
    frame: NDArray[np.uint8], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Do the references' arithmetic, in their order and precision."""
    return (frame.astype(np.float32) / np.float32(255) - mean) / std


def sha256_frames_first(frames: Iterable[NDArray[Any]]) -> str:
    """Hash (T, 3, H, W), C order, one frame of (H, W, 3) after another."""
    sha256 = hashlib.sha256()
    for frame in frames:
        sha256.update(np.ascontiguousarray(frame.transpose(2, 0, 1)))
    return sha256.hexdigest()


@each_of("vtimellm_ref")
def test_frames_as_decoded_equal_vtimellms(case: Case, open_case: OpenCase) -> None:
    with open_case(case) as video:
        frames = list(decode(video, case["frame_indices"]))
    assert list(frames[0].shape[:2]) == case["frame_size_hw"]
    assert sha256_frames_first(frames) == case["frames_sha256"]


@each_of("vtgllm_ref")
def test_bilinear_equals_vtg_llms(case: Case, open_case: OpenCase) -> None:
    with open_case(case) as video:
        frames = np.stack(list(decode(video, case["frame_indices"], 224, "bilinear")))
    assert hashlib.sha256(frames).hexdigest() == case["decoded_sha256"]
    pixels = normalize(frames, CLIP_MEAN, CLIP_STD).transpose(3, 0, 1, 2)  # (3, T, S, S)
    assert hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest() == case["pixels_sha256"]


def formula(t: int) -> NDArray[np.uint8]:
    """Return frame t of the video that the fixture's README gives a formula for."""
    y, x, c = np.ogrid[:144, :200, :3]
    value = 3 * t * (c + 1) + (5 + 2 * c) * x // 3 + (7 - c) * y // 4 + x * y // 97 * (c + 1)
    return (value % 256).astype(np.uint8)


def test_short_side_equals_grounded_videollms(limits: Limits) -> None:
    """Of frames that need no decoder; the recorded videos' are in tests/parity."""
    case = recorded("grounded_videollm_ref")["formula"]
    indices = case["frame_indices"]
    assert sha256_frames_first(map(formula, indices)) == case["decoded_sha256"]
    key_indices = [indices[position] for position in case["key_frame_positions"]]
    for name, chosen, size, mean, std in (
        ("temporal", indices, 224, IMAGENET_MEAN, IMAGENET_STD),
        ("spatial", key_indices, 336, CLIP_MEAN, CLIP_STD),
    ):
        resized = (resize_short_side(formula(t), size, limits) for t in chosen)
        pixels = (normalize(frame, mean, std) for frame in resized)
        assert sha256_frames_first(pixels) == case[f"{name}_pixels_sha256"]

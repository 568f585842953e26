from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groundserve.media import Segments
from groundserve.media._cut import cut_segments
from groundserve.runtime.deadline import Deadline
from python_backend.decode import DaliDecoder
from tests.media_assets import Asset, asset_maker
from tests.media_assets.reading import reader_of
from tests.unit.python_backend.dali_decoder import IMAGE_SIZE, Fallback


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Asset], Path]:
    return asset_maker(tmp_path_factory.mktemp("dali"))


@pytest.fixture(scope="module")
def cut(make: Callable[[Asset], Path]) -> Callable[..., Segments]:
    def cut(asset: Asset, *frame_indices: int) -> Segments:
        with reader_of(make(asset)) as reader:
            return cut_segments(reader, np.array(frame_indices))

    return cut


@pytest.fixture(scope="module")
def fallback() -> Fallback:
    return Fallback()


@pytest.fixture(scope="module")
def decoder(fallback: Fallback) -> DaliDecoder:
    # The pixels of a frame are not what these tests are about.
    return DaliDecoder(
        image_size=IMAGE_SIZE,
        device="cpu",
        num_threads=2,
        fallback=fallback,
        max_frame_pixels=8192**2,
    )


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(60)

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.limits import Limits
from groundserve.media import MediaWorkers, Segments
from groundserve.media._cut import cut_segments
from groundserve.runtime.deadline import Deadline
from tests.media_assets import Asset, asset_maker
from tests.media_assets.reading import reader_of
from tests.media_assets.whole_file import decode_whole_file

MakeAsset = Callable[[Asset], Path]


@pytest.fixture(scope="session")
def make_asset(tmp_path_factory: pytest.TempPathFactory) -> MakeAsset:
    return asset_maker(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def decode_asset(make_asset: MakeAsset) -> Callable[[Asset], list[NDArray[np.uint8]]]:
    """Every frame of an asset, decoded once a session without this package."""
    decoded: dict[str, list[NDArray[np.uint8]]] = {}

    def decode(asset: Asset) -> list[NDArray[np.uint8]]:
        if asset.name not in decoded:
            decoded[asset.name] = decode_whole_file(make_asset(asset))
        return decoded[asset.name]

    return decode


@pytest.fixture
def cut_asset(make_asset: MakeAsset) -> Callable[..., Segments]:
    """Cut frames of an asset, named by their ordinals."""

    def cut(asset: Asset, *frame_indices: int) -> Segments:
        with reader_of(make_asset(asset)) as reader:
            return cut_segments(reader, np.array(frame_indices))

    return cut


@pytest.fixture(scope="session")
def limits() -> Limits:
    return Limits()


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(60)


@pytest.fixture(scope="module")
def workers(limits: Limits) -> Iterator[MediaWorkers]:
    with MediaWorkers(limits=limits) as workers:
        yield workers

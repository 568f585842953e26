from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groundserve.errors import MediaError
from groundserve.media._container import open_segment
from groundserve.media._cut import cut_segments
from groundserve.media._mux import _check_written
from tests.media_assets import EDIT_LIST, H264_OPEN_GOP, ROTATED_VP8, Asset
from tests.media_assets.reading import reader_of

MakeAsset = Callable[[Asset], Path]


@pytest.mark.parametrize("asset", [H264_OPEN_GOP, EDIT_LIST, ROTATED_VP8])
def test_segment_announces_what_it_holds(asset: Asset, make_asset: MakeAsset) -> None:
    with reader_of(make_asset(asset)) as reader:
        segments = cut_segments(reader, np.array([3, 14, 25]))
    for file, local_frames in segments:
        with open_segment(io.BytesIO(file)) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
        assert stream.frames in (len(packets), 0)
        assert b"elst" not in bytes(file)
        assert not any(packet.is_discard for packet in packets)
        assert local_frames[-1] < len(packets)


def test_segment_stored_otherwise_fails(make_asset: MakeAsset) -> None:
    data = make_asset(EDIT_LIST).read_bytes()  # 52 frames are shown, 8 hidden
    with pytest.raises(MediaError, match=r"60 packets was stored as 60 \(8 hidden, 60 announced\)"):
        _check_written(data, 60)


def test_every_segment_is_checked(make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []
    monkeypatch.setattr(
        "groundserve.media._mux._check_written", lambda data, _: checked.append(data)
    )
    with reader_of(make_asset(EDIT_LIST)) as reader:
        segments = cut_segments(reader, np.array([3, 14]))
    assert checked == [bytes(file) for file, _ in segments]
    assert len(checked) == 2

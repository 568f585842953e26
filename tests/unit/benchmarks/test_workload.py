"""Videos that nobody has seen, and the tensors of a request."""

from __future__ import annotations

import hashlib
import io
import json

import av
import numpy as np
import pytest

from benchmarks._workload import Workload, unseen
from groundserve import ScoreOptions
from groundserve.errors import InvalidRequestError
from tests.media_assets import H264, VP9, asset_maker

OPTIONS = ScoreOptions(num_frames=3)


def decoded(data):
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray() for frame in container.decode(video=0)])


def test_an_unseen_video_has_another_hash_and_the_same_frames(tmp_path):
    data = asset_maker(tmp_path)(H264).read_bytes()
    others = [unseen(data) for _ in range(3)]
    assert len({hashlib.sha256(one).digest() for one in (data, *others)}) == 4
    assert np.array_equal(decoded(others[0]), decoded(data))


@pytest.mark.parametrize("name", ["webm", "uri"])
def test_what_cannot_be_made_unseen_is_refused(name, tmp_path):
    video = asset_maker(tmp_path)(VP9).read_bytes() if name == "webm" else "file:///a.mp4"
    workload = Workload(videos=(video,), options=OPTIONS)
    workload.check(1.0)
    with pytest.raises(InvalidRequestError, match="have all cached"):
        workload.check(0.5)


def test_a_share_is_a_share():
    with pytest.raises(InvalidRequestError, match=r"must be in \[0, 1\], got 1.5"):
        Workload(videos=(b"",), options=OPTIONS).check(1.5)


def test_tensors():
    first, second = b"....ftyp1", b"....ftyp2"
    workload = Workload(videos=(first, second, "file:///a.mp4"), options=OPTIONS)
    tensors = workload.tensors(1, is_cached=True)
    assert tensors["VIDEO"].tobytes() == second
    assert tensors["VIDEO"].dtype == np.uint8
    assert tensors["QUERY"].tolist() == [b"When is number 1 shown?"]
    assert json.loads(tensors["OPTIONS"].item())["num_frames"] == 3
    cold = workload.tensors(3, is_cached=False)["VIDEO"].tobytes()
    assert cold.startswith(first)
    assert cold != first
    uri = workload.tensors(2, is_cached=True)
    assert uri["VIDEO_URI"].tolist() == [b"file:///a.mp4"]
    assert "VIDEO" not in uri

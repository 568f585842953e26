"""Which resize rules the decoders apply, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError
from groundserve.families.plans import FrameStream
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, ResizeRule, Segments
from groundserve.media._decode import decode_segments
from groundserve.media.outputs import FrameOutput
from python_backend.decode import DaliDecoder, PyAVDecoder
from python_backend.meter import Counts
from tests.media_assets import VP9
from tests.unit.python_backend.dali_decoder import Fallback


@pytest.mark.parametrize("resize", ["short_side", "bilinear"])
def test_dali_leaves_rules_other_than_the_square_to_pyav(
    resize: ResizeRule, cut: Callable[..., Segments], deadline: Deadline
) -> None:
    fallback = Fallback()
    dali = DaliDecoder(image_size=20, resize=resize, device="cpu", num_threads=1, fallback=fallback)
    decoded = dali.decode(cut(VP9, 3), deadline=deadline)
    assert decoded.decoder == f"pyav (DALI does not resize by the rule {resize})"
    assert fallback.num_calls == 1


@pytest.mark.parametrize("resize", ["square", "short_side", "bilinear"])
def test_pyav_applies_the_rule(
    resize: ResizeRule, cut: Callable[..., Segments], deadline: Deadline
) -> None:
    segments = cut(VP9, 3)
    with MediaWorkers(limits=Limits()) as workers:
        streams = [FrameStream(name="FRAMES", size=20, resize=resize)]
        pyav = PyAVDecoder(workers, streams=streams, meter=Counts())
        decoded = pyav.decode(segments, deadline=deadline)
    expected = decode_segments(
        segments, [FrameOutput(image_size=20, resize=resize)], num_threads=1, limits=Limits()
    ).outputs[0]
    np.testing.assert_array_equal(decoded.frames, expected)


@pytest.mark.parametrize(("image_size", "resize"), [(20, "nearest"), (None, "bilinear")])
def test_pyav_refuses_others_when_opened(image_size: int | None, resize: ResizeRule) -> None:
    streams = [FrameStream(name="FRAMES", size=image_size, resize=resize)]
    with (
        MediaWorkers(limits=Limits()) as workers,
        pytest.raises(InvalidRequestError, match=repr(resize)),
    ):
        PyAVDecoder(workers, streams=streams, meter=Counts())

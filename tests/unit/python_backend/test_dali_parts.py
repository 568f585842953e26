"""A chunk that DALI decodes in several runs, as its size demands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.media import Segments
from groundserve.runtime.deadline import Deadline
from python_backend.decode import DaliDecoder, memory
from tests.media_assets import GOP_FRAMES, VP8, VP9
from tests.unit.python_backend.dali_decoder import with_hidden_packets


@pytest.fixture
def batches(decoder: DaliDecoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Segments of each of DALI's runs: one to fill memory, one to decode."""
    sizes: list[int] = []
    run = decoder._run

    def record(files: list[NDArray[np.uint8]], ordinals: list[NDArray[np.int32]]) -> object:
        sizes.append(len(files))
        return run(files, ordinals)

    monkeypatch.setattr(decoder, "_run", record)
    return sizes


def allow_decoders(count: int, segments: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    ceiling = count * memory.decoder_bytes(segments.stream)
    monkeypatch.setattr(memory, "DECODERS_BYTES", ceiling)


@pytest.mark.parametrize(
    ("num_decoders", "expected"),
    [(1, [1] * 12), (4, [4, 4, 2, 2])],
)
def test_frames_are_the_same_however_a_chunk_is_split(
    num_decoders: int,
    expected: list[int],
    cut: Callable[..., Segments],
    decoder: DaliDecoder,
    batches: list[int],
    deadline: Deadline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segments = cut(VP9, 1, 2, 11, 12, 30, 40, 50, 51, 71)
    assert segments.num_segments == 6
    whole = decoder.decode(segments, deadline=deadline)
    assert batches == [6, 6]
    batches.clear()
    allow_decoders(num_decoders, segments, monkeypatch)
    parts = decoder.decode(segments, deadline=deadline)
    assert batches == expected
    assert parts.decoder == whole.decoder == "dali"
    np.testing.assert_array_equal(parts.frames, whole.frames)


def joined(first: Segments, second: Segments) -> Segments:
    return Segments.concatenate(
        [first.data.tobytes(), second.data.tobytes()],
        [first.local_frames, second.local_frames],
        stream=replace(
            first.stream, frame_counts=first.stream.frame_counts + second.stream.frame_counts
        ),
    )


def test_frames_that_do_not_come_out_of_a_later_part_are_found(
    cut: Callable[..., Segments],
    decoder: DaliDecoder,
    batches: list[int],
    deadline: Deadline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = cut(VP8, *range(GOP_FRAMES))
    other = cut(VP8, *range(GOP_FRAMES, 2 * GOP_FRAMES))
    expected = decoder.decode(joined(other, good), deadline=deadline).frames
    allow_decoders(1, good, monkeypatch)
    # The first part leaves its frames where those of the second are missing.
    bad = joined(other, with_hidden_packets(good, 7))
    for _ in range(3):
        batches.clear()
        decoded = decoder.decode(bad, deadline=deadline)
        assert batches == [1, 1, 1, 1]
        assert decoded.decoder == "pyav (DALI wrote no frame 19 of 24)"
        np.testing.assert_array_equal(
            decoder.decode(joined(other, good), deadline=deadline).frames, expected
        )

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import Segments, _decode
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from groundserve.media._memory import max_decoders, needed_address_space
from groundserve.media._side_by_side import run_behind, run_side_by_side
from groundserve.media.outputs import FrameOutput
from tests.media_assets import GOP_FRAMES, H264, Asset
from tests.media_assets.reading import reader_of

MakeAsset = Callable[[Asset], Path]


@pytest.fixture
def segments(make_asset: MakeAsset) -> Segments:
    with reader_of(make_asset(H264)) as reader:
        return cut_segments(reader, np.arange(5, H264.num_frames, GOP_FRAMES))


def test_things_that_cost_most_begin_first() -> None:
    begun: list[int] = []
    run_side_by_side(begun.append, [1, 3, 2, 3], num_threads=1, cost=lambda thing: thing)
    assert begun == [3, 3, 2, 1]


def test_as_many_at_once_as_threads() -> None:
    barrier = threading.Barrier(3, timeout=30)
    run_side_by_side(lambda _: barrier.wait(), range(6), num_threads=3, cost=lambda _: 1)


def test_error_of_the_first_thing_is_raised_though_a_later_one_fails_earlier() -> None:
    later_failed = threading.Event()
    begun = []

    def work(thing: int) -> None:
        begun.append(thing)
        if thing == 1:
            assert later_failed.wait(30)
        if thing == 2:
            later_failed.set()
        if thing in (1, 2):
            raise ValueError(f"thing {thing}")

    # 2 and 1 begin, then 0, whose result is looked at first.
    cost = {0: 2, 1: 3, 2: 4}
    with pytest.raises(ValueError, match="thing 1"):
        run_side_by_side(work, range(3), num_threads=2, cost=cost.__getitem__)
    assert sorted(begun) == [0, 1, 2]


@pytest.mark.parametrize("num_started", [0, 1])
def test_thread_that_cannot_start_is_want_of_memory(
    num_started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker words that; a RuntimeError would end it."""
    start = threading.Thread.start
    second_failed = threading.Event()
    threads: list[threading.Thread] = []
    begun: list[int] = []

    def start_some(thread: threading.Thread) -> None:
        if len(threads) == num_started:
            second_failed.set()
            raise RuntimeError("can't start new thread")
        threads.append(thread)
        start(thread)

    def work(thing: int) -> None:
        begun.append(thing)
        assert second_failed.wait(30)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with pytest.raises(MemoryError):
        run_side_by_side(work, range(50), num_threads=2, cost=lambda _: 1)
    assert num_started <= len(begun) < 50


@pytest.mark.parametrize(
    ("num_segments", "num_threads", "decoders", "threads_each"),
    [(6, 1, 1, 1), (6, 2, 2, 1), (6, 8, 6, 1), (1, 4, 1, 4), (2, 4, 2, 2), (2, 5, 2, 2)],
)
def test_threads_are_shared_out(
    num_segments: int,
    num_threads: int,
    decoders: int,
    threads_each: int,
    make_asset: MakeAsset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares = []
    run, open_all = _decode.run_side_by_side, _decode._open_all

    def spy(*arguments: object, num_threads: int, **others: object) -> None:
        shares.append(num_threads)
        run(*arguments, num_threads=num_threads, **others)

    def spy_open(opened: Segments, *, num_threads: int) -> object:
        shares.append(num_threads)
        return open_all(opened, num_threads=num_threads)

    monkeypatch.setattr(_decode, "run_side_by_side", spy)
    monkeypatch.setattr(_decode, "_open_all", spy_open)
    with reader_of(make_asset(H264)) as reader:
        segments = cut_segments(reader, np.arange(num_segments) * GOP_FRAMES)
    decode_segments(segments, [FrameOutput(image_size=8)], num_threads=num_threads, limits=Limits())
    assert shares == [threads_each, decoders]


def test_damage_in_several_segments_names_the_first_target(segments: Segments) -> None:
    data = segments.data.copy()
    for i in (4, 1, 2):
        middle = int(segments.offsets[i] + segments.offsets[i + 1]) // 2
        data[middle - 200 : middle + 200] = 0xFF
    with pytest.raises(MediaError, match="frame 1 of the 6 asked for does not decode"):
        decode_segments(
            replace(segments, data=data),
            [FrameOutput(image_size=8)],
            num_threads=3,
            limits=Limits(),
        )


def test_more_segments_than_threads_after_an_error_end(segments: Segments) -> None:
    limits = Limits(max_side_pixels=16)
    with pytest.raises(MediaError, match="max_side_pixels"):
        decode_segments(segments, [FrameOutput(image_size=8)], num_threads=2, limits=limits)


@pytest.mark.parametrize("num_threads", [1, 2, 8])
def test_decoders_side_by_side_fit_where_one_does(num_threads: int) -> None:
    limits = Limits()
    assert max_decoders(limits.max_frame_pixels, limits, num_threads=num_threads) == 1
    assert max_decoders(1280 * 720, limits, num_threads=num_threads) >= num_threads
    by_size = [max_decoders(n, limits, num_threads=8) for n in (10**6, 10**7, 2 * 10**7)]
    assert by_size == sorted(by_size, reverse=True)
    # Each with 16 references, its own picture, one that waits and RGB, of 10 bits.
    decoders = max_decoders(3840 * 2160, limits, num_threads=8)
    pictures = decoders * (16 + 1 + 1 + 2) * 3840 * 2160 * 3
    assert pictures < needed_address_space(limits, num_threads=8) - 4 * limits.max_upload_bytes


def test_work_is_counted(segments: Segments) -> None:
    decoded = decode_segments(segments, [FrameOutput(image_size=8)], num_threads=2, limits=Limits())
    assert decoded.frames_converted == segments.num_frames == 6
    # The target is the last packet of each.
    assert decoded.packets_decoded == sum(segments.stream.frame_counts)


def test_decoder_goes_when_its_segment_is_done(
    segments: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of all segments would hold the pictures of all."""
    opened: list[object] = []
    num_open: list[int] = []
    open_all = _decode._open_all

    def spy(*arguments: object, **others: object) -> list[object]:
        opened.extend(open_all(*arguments, **others))
        return opened

    def count(*_: object) -> list[tuple[int, np.ndarray]]:
        num_open.append(sum("_container" in vars(segment) for segment in opened))
        return [(0, np.zeros((8, 8, 3), np.uint8))]

    monkeypatch.setattr(_decode, "_open_all", spy)
    monkeypatch.setattr(_decode, "FrameConverter", lambda *_: count)
    decode_segments(segments, [FrameOutput(image_size=8)], num_threads=1, limits=Limits())
    assert num_open == [6, 5, 4, 3, 2, 1]


def test_the_next_thing_is_made_while_one_is_worked_on() -> None:
    second_made = threading.Event()
    worked_on = []

    def things() -> Iterator[int]:
        yield 0
        second_made.set()
        yield 1

    def work(thing: int) -> None:
        assert second_made.wait(30)
        worked_on.append(thing)

    run_behind(work, things())
    assert worked_on == [0, 1]


def test_nothing_more_is_made_after_work_failed() -> None:
    made = []

    def things() -> Iterator[int]:
        for thing in range(10):
            made.append(thing)
            yield thing

    def work(thing: int) -> None:
        raise ValueError(f"thing {thing}")

    with pytest.raises(ValueError, match="thing 0"):
        run_behind(work, things())
    assert made == [0, 1]

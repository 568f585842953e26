"""What a worker answers is checked: its memory may be in the hands of whoever made the video."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from groundserve.errors import UnavailableError
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, Segments, StreamInfo, _process
from groundserve.media._wire import Channel, Message
from groundserve.runtime.deadline import Deadline

SIDE = 4
SEGMENTS = Segments(
    data=np.zeros(100, np.uint8),
    offsets=np.array([0, 100]),
    local_frames=np.array([0, 2], np.int32),
    local_offsets=np.array([0, 2]),
    stream=StreamInfo(
        codec_name="h264",
        pixel_format="yuv420p",
        width=8,
        height=8,
        rotation=0,
        frame_counts=(3,),
    ),
)
FRAMES = np.zeros((2, SIDE, SIDE, 3), np.uint8)
COUNTS = {"packets_decoded": 3, "frames_converted": 2}


@pytest.fixture
def answer_with(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[Message], subprocess.Popen[bytes]]]:
    """Have workers be processes that do nothing, and somebody else answer for them."""
    threads = []

    def answer_with(answer: Message) -> subprocess.Popen[bytes]:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(["sleep", "60"])

        def answer_once() -> None:
            with theirs:
                channel = Channel(theirs)
                channel.receive(max_bytes=10**6)
                channel.send(answer)

        threads.append(threading.Thread(target=answer_once))
        threads[-1].start()
        monkeypatch.setattr(_process, "_start", lambda _: (process, Channel(ours)))
        return process

    yield answer_with
    for thread in threads:
        thread.join()


def decode(workers: MediaWorkers) -> np.ndarray:
    return workers.decode(SEGMENTS, image_size=SIDE, deadline=Deadline.after(30))


@pytest.mark.parametrize(
    ("fields", "arrays"),
    [
        pytest.param(COUNTS, {}, id="no_frames"),
        pytest.param(COUNTS, {"frames_0": FRAMES.astype(np.int32)}, id="other_dtype"),
        pytest.param(COUNTS, {"frames_0": FRAMES[:1]}, id="too_few_frames"),
        pytest.param(COUNTS | {"packets_decoded": "3"}, {"frames_0": FRAMES}, id="text"),
        pytest.param(COUNTS | {"packets_decoded": 101}, {"frames_0": FRAMES}, id="more_than_bytes"),
        pytest.param({"error": "OSError", "message": "it"}, {}, id="error_of_another_kind"),
    ],
)
def test_any_other_ends_the_worker(
    answer_with: Callable, fields: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    process = answer_with(Message(fields=fields, arrays=arrays))
    with MediaWorkers(limits=Limits()) as workers:
        with pytest.raises(UnavailableError, match="the decoder process died"):
            decode(workers)
        assert process.returncode is not None
        done = workers.work_done()
    assert (done["packets_decoded"], done["frames_converted"]) == (0, 0)

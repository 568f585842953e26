from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from groundserve.media._wire import Channel, WireError
from groundserve.runtime.deadline import Deadline


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def raw(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"abc", "the peer is gone", id="cut_short"),
        pytest.param(struct.pack("<Q", 2**40), "a header of 1099511627776 bytes", id="huge"),
        pytest.param(struct.pack("<Q", 3) + b"abc", "a malformed header", id="no_json"),
        pytest.param(
            raw({"fields": {}, "arrays": [["a", "object", [1]]]}), "malformed", id="object"
        ),
        pytest.param(
            raw({"fields": {}, "arrays": [["a", "int64", [2**40, 2**40]]]}),
            "more than 100",
            id="too_large",
        ),
    ],
)
def test_what_is_not_a_message_fails(
    data: bytes, message: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    left.sendall(data)
    left.close()
    with pytest.raises(WireError, match=message):
        Channel(right).receive(max_bytes=100)


def test_trickling_peer_does_not_extend_the_deadline(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, right = pair
    stop = threading.Event()

    def trickle() -> None:
        left.sendall(struct.pack("<Q", 1000))
        while not stop.wait(0.02):
            left.sendall(b"x")

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        with pytest.raises(TimeoutError):
            Channel(right).receive(max_bytes=100, deadline=Deadline.after(0.2))
    finally:
        stop.set()
        sender.join()

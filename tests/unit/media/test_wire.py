from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from groundserve.deadline import POLL_SECONDS, Deadline
from groundserve.errors import RequestCancelledError
from groundserve.media._wire import Channel, Message, NotReceivedError, WireError


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def raw(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def test_message_arrives_as_it_was_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    arrays = {
        "a": np.arange(300_000, dtype=np.int64)[::2],
        "b": np.zeros((2, 0), np.uint8),
        "c": np.array([True, False]),
    }
    left, right = map(Channel, pair)
    sender = threading.Thread(target=left.send, args=(Message(fields={"x": 1.5}, arrays=arrays),))
    sender.start()
    message = right.receive(max_bytes=2 * 10**6)
    sender.join()
    assert message.fields == {"x": 1.5}
    assert list(message.arrays) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(message.arrays[name], array, strict=True)


def test_descriptor_travels(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = map(Channel, pair)
    with open("/dev/null", "rb") as file:
        left.send(Message(fields={}), file.fileno())
        _, fd = right.receive_with_fd(max_bytes=0)
        assert fd is not None
        assert fd != file.fileno()
        assert os.path.sameopenfile(fd, file.fileno())
        os.close(fd)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "the peer is gone", id="nothing"),
        pytest.param(b"abc", "the peer is gone", id="cut_short"),
        pytest.param(struct.pack("<Q", 2**40), "a header of 1099511627776 bytes", id="huge"),
        pytest.param(struct.pack("<Q", 3) + b"abc", "a malformed header", id="no_json"),
        pytest.param(raw([]), "a malformed header", id="no_object"),
        pytest.param(raw({"fields": {}}), "a malformed header", id="no_arrays"),
        pytest.param(
            raw({"fields": {}, "arrays": [["a", "object", [1]]]}), "malformed", id="object"
        ),
        pytest.param(
            raw({"fields": {}, "arrays": [["a", "uint8", [-1]]]}), "malformed", id="negative"
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


def test_sending_to_a_closed_peer_fails(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    right.close()
    with pytest.raises(WireError, match="the peer is gone"):
        Channel(left).send(Message(fields={}))


def test_sending_to_a_peer_that_does_not_read_times_out(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, _ = pair
    message = Message(fields={}, arrays={"a": np.zeros(10**7, np.uint8)})
    with pytest.raises(TimeoutError):
        Channel(left).send(message, deadline=Deadline.after(0.1))


@pytest.mark.parametrize("waits_to", ["send", "receive"])
def test_wait_for_the_peer_ends_when_the_request_is_cancelled(
    waits_to: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    asked = iter([False, False, False, True])
    deadline = Deadline.after(60, is_cancelled=lambda: next(asked))
    channel = Channel(pair[0])
    message = Message(fields={}, arrays={"a": np.zeros(10**7, np.uint8)})
    wait = {
        "send": partial(channel.send, message),
        "receive": partial(channel.receive, max_bytes=0),
    }[waits_to]
    with pytest.raises(RequestCancelledError):
        wait(deadline=deadline)


def test_large_message_arrives_whole_at_a_peer_slower_than_one_wait(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    sent = np.arange(10**6, dtype=np.int64)
    deadline = Deadline.after(60, is_cancelled=lambda: False)
    sender = threading.Thread(
        target=Channel(pair[0]).send,
        args=(Message(fields={}, arrays={"a": sent}),),
        kwargs={"deadline": deadline},
    )
    sender.start()
    sender.join(4 * POLL_SECONDS)  # it waits for us by now, several times
    assert sender.is_alive()
    message = Channel(pair[1]).receive(max_bytes=10**7, deadline=deadline)
    sender.join()
    np.testing.assert_array_equal(message.arrays["a"], sent)


@pytest.mark.parametrize("num_bytes_read", [0, 8])
def test_peer_that_dies_with_the_message_unread_did_not_receive_it(
    num_bytes_read: int, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = Channel(pair[0]), pair[1]
    left.send(Message(fields={"x": 1}))
    right.recv(num_bytes_read)
    right.close()
    with pytest.raises(NotReceivedError):
        left.receive(max_bytes=0)
    with pytest.raises(NotReceivedError):
        left.send(Message(fields={"x": 1}))


def test_peer_that_dies_with_the_message_read_may_have_begun(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, right = map(Channel, pair)
    left.send(Message(fields={"x": 1}))
    right.receive(max_bytes=0)
    right.close()
    with pytest.raises(WireError) as caught:
        left.receive(max_bytes=0)
    assert caught.type is WireError

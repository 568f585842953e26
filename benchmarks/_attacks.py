"""Callers who mean harm to a gateway, and who are nobody's: each kind in a process of its own."""

from __future__ import annotations

import gzip
import itertools
import json
import multiprocessing
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2

ATTACKS = {
    "slow_upload": (64, 1.0),
    "half_open": (300, 0.01),
    "full_spool": (4, 0.1),
    "gzip_bomb": (8, 0.1),
    "crumbs": (8, 0.1),
    "leave": (16, 0.1),
}
"""Threads, and seconds between two attacks of each."""


class Attack:
    """Callers who mean harm, some in threads: each method one of theirs, again and again."""

    def __init__(self, url: str, key: str, video_id: str, video: bytes) -> None:
        self._address = (httpx2.URL(url).host, httpx2.URL(url).port)
        self._key, self._video_id, self._video = key, video_id, video
        self._bomb = gzip.compress(bytes(50 * 2**20))

    def run(self, name: str, num_threads: int, pause: float) -> None:
        """Attack until the process ends; pauses stand for the network that is not there."""
        os.nice(39)  # the processors that they would have are elsewhere

        def work() -> None:
            while True:
                with suppress(OSError):
                    getattr(self, name)()
                time.sleep(pause)

        threads = [threading.Thread(target=work) for _ in range(num_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def slow_upload(self) -> None:
        """Send a video just as fast as is asked for."""
        with self._connect() as connection:
            connection.sendall(self._head("/v1/videos", 10**9, "video/mp4"))
            for _ in itertools.count():
                connection.sendall(b"x" * 3300)
                time.sleep(0.2)

    def half_open(self) -> None:
        """Open a connection, say half a head, and wait to be cut off."""
        with self._connect() as connection:
            connection.sendall(b"POST /v1/score HTTP/1.1\r\nHo")
            connection.recv(1)

    def full_spool(self) -> None:
        """Upload where there is no room."""
        with self._connect() as connection:
            connection.sendall(self._head("/v1/videos", len(self._video), "video/mp4"))
            connection.sendall(self._video)
            connection.recv(9999)

    def gzip_bomb(self) -> None:
        """Send 50 MiB as 51 KB."""
        with self._connect() as connection:
            head = self._head("/v1/score", len(self._bomb), "application/json")
            connection.sendall(head.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"))
            connection.sendall(self._bomb)
            connection.recv(9999)

    def crumbs(self) -> None:
        """Send a body a byte a chunk."""
        with self._connect() as connection:
            head = self._head("/v1/videos", 0, "video/mp4")
            connection.sendall(head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
            connection.sendall(b"1\r\nx\r\n" * 500_000)
            connection.recv(9999)

    def leave(self) -> None:
        """Break off amid a request: in the head, the body, the work, or the answer."""
        body = {"video_id": self._video_id, "queries": ["a"]}
        text = json.dumps(body).encode()
        request = self._head("/v1/score", len(text), "application/json") + text
        with self._connect() as connection:
            # Without a word of farewell.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(request[: random.randrange(2 * len(request))])
            time.sleep(random.random() / 50)

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._address, 30)

    def _head(self, path: str, num_bytes: int, kind: str) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "Host: g", f"Authorization: Bearer {self._key}"]
        lines += [f"Content-Type: {kind}", f"Content-Length: {num_bytes}", "", ""]
        return "\r\n".join(lines).encode()


@contextmanager
def attacking(attack: Attack, name: str) -> Iterator[None]:
    """Attack in a process of its own for the length of a block."""
    if name not in ATTACKS:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(
        target=attack.run, args=(name, *ATTACKS[name]), daemon=True
    )
    process.start()
    try:
        yield
        assert process.is_alive(), "it attacks until it is ended"
    finally:
        process.kill()
        process.join()

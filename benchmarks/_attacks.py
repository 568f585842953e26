"""What an honest caller of a gateway notices of those who mean harm, who are processes apart."""

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
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2

from benchmarks._gateway import Bench, mixed, store
from benchmarks._report import spread
from groundserve.gateway.keys import add_key

_ATTACKS = {
    "slow_upload": (64, 1.0),
    "half_open": (300, 0.01),
    "full_spool": (4, 0.1),
    "gzip_bomb": (8, 0.1),
    "crumbs": (8, 0.1),
    "leave": (16, 0.1),
}
"""Threads, and seconds between two attacks of each."""


class _Attack:
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
def _attacking(attack: _Attack, name: str) -> Iterator[None]:
    """Attack in a process of its own for the length of a block."""
    if name not in _ATTACKS:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(
        target=attack.run, args=(name, *_ATTACKS[name]), daemon=True
    )
    process.start()
    try:
        yield
        assert process.is_alive(), "it attacks until it is ended"
    finally:
        process.kill()
        process.join()


def honest(bench: Bench) -> dict[str, Any]:
    """Time an honest client by itself, then beside each attack, then by itself again."""
    keys = bench.folder / "keys"
    limits = {"requests_per_minute": 10**6, "max_jobs": 1000}
    mine, theirs = (add_key(keys, name, **limits) for name in ("honest", "other"))
    content = bench.video.read_bytes()
    room = ("--keys", keys, "--max-spool-bytes", 40 * len(content))
    found: dict[str, Any] = {}
    with bench.serving(*bench.with_gateway, *room, key=mine) as (started, client):
        video_id = store(client, bench.video)
        others = {"authorization": f"Bearer {theirs}"}
        other_id = client.post("/v1/videos", content=content, headers=others).json()["id"]
        attack = _Attack(started.addresses["gateway"], theirs, other_id, content)
        for name in ("alone", *_ATTACKS, "alone_again"):
            with _attacking(attack, name):
                if name == "full_spool":
                    for _ in range(50):
                        client.post("/v1/videos", content=content, headers=others)
                time.sleep(2)
                found[name] = _honest(bench, client, video_id)
        bench.expect(not found["alone_again"]["failed"], "it does not answer afterwards")
        events = Counter(one["event"] for one in started.events() if one["event"] != "request")
    for one in found.values():
        for kind in ("score", "told"):
            one[kind]["ratio"] = one[kind]["median"] / found["alone"][kind]["median"]
    return {"ms": found, "events": events}


def _honest(bench: Bench, client: httpx2.Client, video_id: str) -> dict[str, Any]:
    """Ask one after the other for as long as an attack lasts."""
    times: dict[str, list[float]] = {"score": [], "told": []}
    failed: Counter[str] = Counter()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for kind, each in times.items():
            began = time.perf_counter()
            status = mixed(client, kind, 0, bench.video, video_id)[0]
            each.append((time.perf_counter() - began) * 1000)
            if status != 200:
                failed[f"{kind} {status}"] += 1
    bench.expect(not failed, f"an honest client failed: {failed}")
    return {**{kind: spread(each) for kind, each in times.items()}, "failed": failed}

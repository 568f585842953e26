"""A gateway to measure, its callers, and what they keep of an answer."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from benchmarks._program import Program

_OF_ONE_REQUEST = ("request_id", "timing_ms", "cache_hit", "video")
QUESTIONS = ("a digit comes to rest", "the seven is shown", "Où est le trois ?", "two digits meet")
GOOD = ("score", "upload", "job", "video", "told", "frame", "clip")
BAD: dict[str, dict[str, Any]] = {
    "no_video": {"files": {"video": ("a.mp4", b"no video" * 999)}, "data": {"query": "a"}},
    "nobodys": {"json": {"video_id": "video-0", "queries": ["a"]}},
    "not_finite": {"content": b'{"queries": ["a"], "video_id": "x", "sample_fps": NaN}'},
    "nested": {"content": b"[" * 100_000},
    "too_many": {"json": {"video_id": "video-0", "queries": ["a"] * 33}},
    "compressed": {"content": gzip.compress(b" " * 10**7), "headers": {"content-encoding": "gzip"}},
    "other_type": {"content": b"{}", "headers": {"content-type": "text/plain"}},
}
"""Each an error below 500, whatever else the gateway does."""

Kept = tuple[int, str]
"""An answer: its status, and what of it is the same each time."""


_ANY_PORTS = ("--grpc-port", 0, "--metrics-port", 0, "--json")


Served = tuple[Program, httpx2.Client]


class Bench:
    """One part at work: its folder, its engines, its video."""

    def __init__(self, folder: Path, engines: list[Path], video: Path, minutes: float) -> None:
        self.folder, self.video, self.minutes = folder, video, minutes
        self.all_engines = [one.absolute() for one in engines]
        self.engines = folder / "engines"
        """A link to the first of them."""
        self.engines.symlink_to(self.all_engines[0])
        self.problems: list[str] = []

    @contextmanager
    def serving(self, *options: object, key: str = "none") -> Iterator[Served]:
        """Run `serve`, with a gateway where the options have one."""
        cache = ("--cache-dir", self.folder / "cache")
        options = ("--engines", self.engines, *cache, *_ANY_PORTS, *options)
        with self.program("serve", *options, key=key) as found:
            yield found

    @contextmanager
    def program(self, *words: object, key: str = "none") -> Iterator[Served]:
        """Run a command; the client is of its gateway."""
        (folder := self.folder / str(words[0])).mkdir(exist_ok=True)
        started = Program(folder, *words)
        try:
            started.wait_until_ready()
            url = started.addresses.get("gateway", "http://none")
            headers = {"authorization": f"Bearer {key}"}
            limits = httpx2.Limits(max_connections=None)
            with httpx2.Client(base_url=url, headers=headers, timeout=120, limits=limits) as client:
                while "gateway" in started.addresses and client.get("/readyz").status_code != 200:
                    time.sleep(0.05)
                yield started, client
        finally:
            started.kill()

    @property
    def with_gateway(self) -> tuple[object, ...]:
        """Options of `serve`."""
        return ("--gateway", 0, "--spool", self.folder / "spool")

    def expect(self, holds: object, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.problems.append(what)


def lasting(text: str) -> str:
    """Return an answer's JSON without what is of one request alone."""
    told = json.loads(text)
    return json.dumps({name: told[name] for name in told if name not in _OF_ONE_REQUEST})


def store(client: httpx2.Client, video: Path) -> str:
    """Upload a video; return its id."""
    return str(client.post("/v1/videos", content=video.read_bytes()).json()["id"])


def mixed(client: httpx2.Client, kind: str, number: int, video: Path, video_id: str) -> Kept:
    """Make one request of `GOOD` or `BAD`; the same kind and number have the same answer."""
    if kind in BAD:
        more = {"headers": {"content-type": "application/json"}, **BAD[kind]}
        answer = client.post("/v1/score", **(BAD[kind] if "files" in more else more))
        return answer.status_code, answer.json()["error"]["type"]
    body: dict[str, Any] = {
        "queries": [QUESTIONS[number % 4]],
        "num_frames": (8, 16, 24)[number % 3],
    }
    if kind == "frame":
        answer = client.get(f"/v1/videos/{video_id}/frames/{number}.jpg")
        return answer.status_code, answer.content.hex()
    if kind == "clip":
        answer = client.get(f"/v1/videos/{video_id}/clip.mp4?start={number}&end={number + 1}")
        return answer.status_code, answer.content.hex()
    if kind == "told":
        answer = client.get(f"/v1/videos/{video_id}")
        return answer.status_code, answer.json()["sha256"]
    if kind == "video":
        made = store(client, video)
        told = client.get(f"/v1/videos/{made}").json()
        return client.delete(f"/v1/videos/{made}").status_code, told["sha256"]
    if kind == "upload":
        data = {"query": body.pop("queries"), "options": json.dumps(body)}
        files = {"video": (video.name, video.read_bytes())}
        answer = client.post("/v1/score", files=files, data=data)
    else:
        body |= {"video_id": video_id, "background": kind == "job"}
        answer = client.post("/v1/score", json=body)
    if kind == "job" and answer.status_code == 202:
        told = ended(client, answer.json()["id"])
        return answer.status_code, lasting(json.dumps(told["result"] or told["error"]))
    return answer.status_code, lasting(answer.text)


def ended(client: httpx2.Client, job: str) -> dict[str, Any]:
    """Return a job once it has ended, and forget it."""
    while True:
        told: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        if told["finished_at"]:
            client.delete(f"/v1/jobs/{job}")
            return told
        time.sleep(0.05)


@contextmanager
def load(ask: Callable[[int], Any], answers: list[Any], num_threads: int = 4) -> Iterator[None]:
    """Ask again and again for the length of a block, and keep each answer."""
    is_over, numbers = threading.Event(), itertools.count()

    def work() -> None:
        while not is_over.is_set():
            answers.append(ask(next(numbers)))

    with ThreadPoolExecutor(num_threads) as pool:
        asking = [pool.submit(work) for _ in range(num_threads)]
        try:
            yield
        finally:
            is_over.set()
        for one in asking:
            one.result()


def point_to(link: Path, place: Path) -> None:
    """Have a symlink lead elsewhere, in one step."""
    new = link.with_name("new")
    new.symlink_to(place)
    new.rename(link)

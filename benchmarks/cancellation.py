"""How long does the server work on for a caller that left?

python -m benchmarks.cancellation [--out JSON]

Serves the shipped checkpoint and sends requests that take long in one place each: a file of very
many packets (probing), 720p in one group of pictures (cutting and decoding), 7 questions of 16,000
bytes (grounding; as many as fit on a command line). In the middle of each the caller leaves, in one
of five ways:

ensemble    a gRPC call of `videoitg` is cancelled, as a plain client makes it
close       `Client.close` from another thread
timeout     the timeout of `Client` passes
kill        SIGKILL of the process that holds the `Client`
interrupt   Ctrl-C of `groundserve score --server`

Each is done twice. Once nothing else is asked: the server counts as idle from when its processes
use no processor time for `QUIET_SECONDS`. Once a short request follows at once, and is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import psutil
import tritonclient.grpc

from benchmarks._report import write_report
from engine_build import build
from groundserve import Client, GroundserveError, ScoreOptions
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from groundserve.serving import TritonServer

OPTIONS = ScoreOptions(num_frames=300, sampling="infer")
POLL_SECONDS = 0.05
QUIET_SECONDS = 0.6
QUIET_SHARE = 0.1
"""Part of a core that an idle server may use: its timers go on."""
GIVE_UP_SECONDS = 120.0
_PATTERN = ("-f", "lavfi", "-i")
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "35", "-pix_fmt", "yuv420p")
ASK = """
import json, sys
from groundserve import Client, ScoreOptions
options = ScoreOptions(num_frames=300, sampling="infer")
Client(sys.argv[1]).score(sys.argv[2], json.loads(sys.argv[3]), options)
"""
COMMAND = "from groundserve.cli.main import main; main()"


@dataclass(frozen=True)
class Workload:
    """A request that takes long in one place."""

    video: Path
    queries: tuple[str, ...]


class Load:
    """The server, and how much of the processor it has used."""

    def __init__(self, server: TritonServer, short: Path) -> None:
        """Take a server that runs, and a video that it answers at once."""
        self.url = f"grpc://{server.grpc_address}"
        self._address = server.grpc_address
        self._root = psutil.Process(server.pid)
        self._short = short
        self._used: dict[psutil.Process, float] = {}

    def used_seconds(self) -> float:
        """Return the processor time of all processes so far; a dead one's stays counted."""
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            self._used[process] = times.user + times.system
        return sum(self._used.values())

    def wait_until_busy(self) -> None:
        """Wait until the server has begun."""
        at_first = self.used_seconds()
        while self.used_seconds() < at_first + 0.1:
            time.sleep(POLL_SECONDS)

    def seconds_until_idle(self) -> float:
        """Wait until the server does nothing, and return when that began, from now."""
        started = time.monotonic()
        since, used = started, self.used_seconds()
        while time.monotonic() < started + GIVE_UP_SECONDS:
            time.sleep(POLL_SECONDS)
            now, used_now = time.monotonic(), self.used_seconds()
            if used_now - used > QUIET_SHARE * (now - since) + 0.02:  # and one tick of its clock
                since, used = now, used_now
            elif now - since > QUIET_SECONDS:
                return since - started
        return GIVE_UP_SECONDS

    def ask_short(self) -> float:
        """Return how long a short request takes."""
        started = time.monotonic()
        with Client(self.url) as client:
            client.score(self._short, "When?", ScoreOptions(num_frames=8))
        return time.monotonic() - started

    @contextmanager
    def asked(self, way: str, work: Workload, seconds: float) -> Iterator[Callable[[], None]]:
        """Begin a request; yields what makes its caller leave.

        Args:
            way: See above.
            work: What is asked.
            seconds: How long a caller waits that has a timeout.
        """
        if way == "ensemble":
            call = self._call_ensemble(work)
            yield call.cancel
        elif way in ("close", "timeout"):
            timeout_seconds = seconds if way == "timeout" else 600.0
            client = Client(self.url, timeout_seconds=timeout_seconds)
            thread = threading.Thread(target=_score, args=(client, work))
            thread.start()
            yield thread.join if way == "timeout" else client.close
            thread.join()
            client.close()
        else:
            command = [sys.executable, "-c", ASK, self.url, str(work.video)]
            command += [json.dumps(work.queries)]
            if way == "interrupt":
                command = [sys.executable, "-c", COMMAND, "score", str(work.video)]
                command += ["--server", self.url, "--num-frames", "300", "--sampling", "infer"]
                command += [word for query in work.queries for word in ("--query", query)]
            which = signal.SIGINT if way == "interrupt" else signal.SIGKILL
            with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
                yield lambda: process.send_signal(which)
                _, errors = process.communicate()
            assert b"Traceback" not in errors
            assert process.returncode == (130 if way == "interrupt" else -which)

    def _call_ensemble(self, work: Workload) -> Any:
        client = tritonclient.grpc.InferenceServerClient(self._address)
        tensors = {
            "VIDEO": np.fromfile(work.video, np.uint8),
            "QUERY": np.array([query.encode() for query in work.queries], np.object_),
            "OPTIONS": np.array([OPTIONS.to_json().encode()], np.object_),
        }
        inputs = []
        for name, array in tensors.items():
            kind = "UINT8" if name == "VIDEO" else "BYTES"
            tensor = tritonclient.grpc.InferInput(name, list(array.shape), kind)
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return client.async_infer("videoitg", inputs, lambda result, error: None)


def _score(client: Client, work: Workload) -> None:
    try:
        client.score(work.video, work.queries, OPTIONS)
    except GroundserveError:
        return
    raise AssertionError("the request was answered before its caller left")


def measure(load: Load, work: Workload) -> dict[str, Any]:
    """Let a caller leave in each way, in the middle of the request."""
    with Client(load.url) as client:
        client.score(work.video, work.queries, OPTIONS)  # starts the processes that read videos
        started = time.monotonic()
        timing_ms = client.score(work.video, work.queries, OPTIONS).timing_ms
        seconds = time.monotonic() - started
    rows: dict[str, Any] = {}
    for way in ("ensemble", "close", "timeout", "kill", "interrupt"):
        row = {}
        for name, look in (
            ("idle_seconds", load.seconds_until_idle),
            ("next_request_seconds", load.ask_short),
        ):
            load.seconds_until_idle()
            with load.asked(way, work, seconds / 2) as leave:
                if way != "timeout":
                    load.wait_until_busy()
                    time.sleep(seconds / 2)
                leave()
                row[name] = look()
        rows[way] = row
    return {"whole_request_seconds": seconds, "timing_ms": timing_ms, "ways": rows}


def make_workloads(folder: Path) -> tuple[dict[str, Workload], Path]:
    """Make the videos; return the requests, and a short video."""
    short, packets, one_gop = (folder / f"{name}.mp4" for name in ("short", "packets", "one_gop"))
    _ffmpeg(*_PATTERN, "testsrc2=size=96x64:rate=30:duration=60", *_X264, "-g", "30", short)
    _ffmpeg("-stream_loop", "350", "-i", short, "-c", "copy", packets)  # of 6 h, the longest served
    gop = ("-g", "99999", "-x264-params", "scenecut=0:keyint=infinite")
    _ffmpeg(*_PATTERN, "testsrc2=size=1280x720:rate=30:duration=180", *_X264, *gop, one_gop)
    questions = tuple(f"{number} {'when does it move ' * 890}"[:16_000] for number in range(7))
    workloads = {
        "probe": Workload(packets, ("When?",)),
        "cut and decode": Workload(one_gop, ("When?",)),
        "ground": Workload(short, questions),
    }
    return workloads, short


def _ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *map(str, arguments)]
    subprocess.run(command, check=True)


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workloads, short = make_workloads(folder)
        build(SHIPPED_CHECKPOINT, folder / "engines", profile="cpu")
        # So much text is refused by default.
        os.environ["GROUNDSERVE_MAX_TEXT_BYTES"] = str(2**20)
        with TritonServer(
            folder / "engines",
            http_port=0,
            grpc_port=0,
            metrics_port=0,
            log_file=folder / "tritonserver.log",
        ) as server:
            load = Load(server, short)
            short_seconds = sorted(load.ask_short() for _ in range(5))
            results: dict[str, Any] = {"short_request_alone_seconds": short_seconds[2]}
            for place, work in workloads.items():
                results[place] = measure(load, work)
                print(place, json.dumps(results[place]), file=sys.stderr, flush=True)
    write_report(args.out, "how long the server works on for a caller that left", results)


if __name__ == "__main__":
    main()

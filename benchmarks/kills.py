"""Does the service come back by itself? Kill its processes under load, one after another.

python -m benchmarks.kills [--kills 20] [--seed 0] [--engines DIR] [--clip MP4] [--out JSON]

Runs `groundserve serve`, scores a clip from several clients without a pause and sends SIGKILL to a
stub, a media worker or the server. The service counts as back at the end of the last request that
failed, or at the first success where none did; the next kill comes after `SETTLE_SECONDS` in which
every client had successes and no failure. Exits with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks._engines import prepared
from benchmarks._report import spread, write_report
from groundserve import Client, GroundserveError

KINDS = ("stub", "worker", "server")
MAX_BACK_SECONDS = 10.0  # of which up to 5 are the supervisor's wait after several deaths
MAX_STOP_SECONDS = 10.0
SETTLE_SECONDS = 2.0
GIVE_UP_SECONDS = 60.0
REQUEST_TIMEOUT_SECONDS = 30.0
NUM_CLIENTS = 3


@dataclass(frozen=True)
class Call:
    """One request of a client; times of the monotonic clock."""

    client: int
    started: float
    ended: float
    error: str | None
    """Class and text; None where it was answered."""


@dataclass
class Load:
    """Clients that score one clip again and again."""

    address: str
    clip: bytes
    calls: list[Call] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> list[threading.Thread]:
        """Start the clients."""
        threads = [threading.Thread(target=self._run, args=(i,)) for i in range(NUM_CLIENTS)]
        for thread in threads:
            thread.start()
        return threads

    def since(self, moment: float) -> list[Call]:
        """Return the calls that ended after a moment."""
        return [call for call in list(self.calls) if call.ended > moment]

    def _run(self, number: int) -> None:
        with Client(self.address, timeout_seconds=REQUEST_TIMEOUT_SECONDS) as client:
            while not self.stop.is_set():
                started, error = time.monotonic(), None
                try:
                    client.score(self.clip, "When does something move?")
                except GroundserveError as caught:
                    error = f"{type(caught).__name__}: {caught}"
                    self.stop.wait(0.05)
                except Exception as caught:  # noqa: BLE001 - the finding that must not be lost
                    error = f"untyped {type(caught).__name__}: {caught}"
                self.calls.append(Call(number, started, time.monotonic(), error))


class Service:
    """`groundserve serve` as a program of its own."""

    def __init__(self, engines: Path, folder: Path) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-c", "from groundserve.cli.main import main; main()", "serve"]
        command += ["--engines", str(engines), "--json", "--log-file", str(folder / "triton.log")]
        command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
        self._events = folder / "events.jsonl"
        with self._events.open("wb") as events:
            self.program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=events)
        assert self.program.stdout is not None
        addresses = json.loads(self.program.stdout.readline())
        self.address, self.http_address = addresses["grpc"], addresses["http"]
        self._root = psutil.Process(self.program.pid)
        self._seen: set[psutil.Process] = set()

    def processes(self, kind: str) -> list[psutil.Process]:
        """Return the processes of a kind that live, and remember all for `orphans`."""
        found = []
        family = self._root.children(recursive=True)
        self._seen |= set(family)
        for process in family:
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if words and kind_of(words) == kind:
                found.append(process)
        return found

    def stop(self) -> float:
        """Send SIGTERM; return how long it took."""
        started = time.monotonic()
        self.program.send_signal(signal.SIGTERM)
        self.program.wait(60)
        assert self.program.stdout is not None
        self.program.stdout.close()
        return time.monotonic() - started

    def orphans(self) -> list[int]:
        """Return the processes that outlived the service, of all that were ever seen."""
        return [process.pid for process in self._seen if is_alive(process)]

    def shared_memory_files(self) -> list[str]:
        """Return the service's files in /dev/shm."""
        prefix = f"groundserve_{self.program.pid}_"
        return [name for name in os.listdir("/dev/shm") if name.startswith(prefix)]

    def events(self) -> list[dict[str, object]]:
        """Return what the supervisor logged."""
        lines = self._events.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def kind_of(words: list[str]) -> str | None:
    """Tell from a command line what a process is."""
    if "groundserve.media._worker" in words:
        return "worker"
    names = {"triton_python_backend_stub": "stub", "tritonserver": "server"}
    return names.get(Path(words[0]).name)


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process has not ended, zombies included in those that have."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def wait_until_settled(load: Load, moment: float) -> float:
    """Wait until the service is back for good after a moment; return the seconds it took."""
    while time.monotonic() < moment + GIVE_UP_SECONDS:
        time.sleep(0.1)
        calls = load.since(moment)
        failed = [call.ended for call in calls if call.error is not None]
        good = [call for call in calls if call.error is None and call.started > moment]
        last_failure = max(failed, default=moment)
        settled = [call for call in good if call.started > last_failure]
        if {call.client for call in settled} != set(range(NUM_CLIENTS)):
            continue
        if time.monotonic() - last_failure > SETTLE_SECONDS:
            return max(last_failure, min(call.ended for call in good)) - moment
    raise SystemExit(f"the service did not come back within {GIVE_UP_SECONDS:.0f} s")


def plan(num_kills: int, rng: random.Random) -> list[str]:
    """Return the kinds to kill in a random order, evenly spread."""
    kinds = [KINDS[i % len(KINDS)] for i in range(num_kills)]
    rng.shuffle(kinds)
    return kinds


def kill_one(service: Service, load: Load, kind: str, rng: random.Random) -> dict[str, object]:
    """Kill one process at a random moment and wait until the service is back."""
    time.sleep(rng.uniform(0.0, 2.0))
    candidates = sorted(service.processes(kind), key=lambda process: process.pid)
    victim = rng.choice(candidates)
    return {"kind": kind, "model": model_of(victim), **strike(victim, signal.SIGKILL, load)}


def strike(victim: psutil.Process, number: signal.Signals, load: Load) -> dict[str, object]:
    """Send a signal to a process, wait until the service is back, and say what that cost."""
    moment = time.monotonic()
    victim.send_signal(number)
    back_seconds = wait_until_settled(load, moment)
    failed = [call for call in load.since(moment) if call.error is not None]
    return {
        "back_seconds": back_seconds,
        "failed_in_flight": sum(call.started <= moment for call in failed),
        "failed_before_back": sum(call.started > moment for call in failed),
        "longest_failed_seconds": max((call.ended - call.started for call in failed), default=0.0),
        "errors": Counter(call.error for call in failed),
    }


def model_of(process: psutil.Process) -> str | None:
    """Return the model of a stub, None for other processes."""
    words = process.cmdline()
    return Path(words[1]).parts[-3] if kind_of(words) == "stub" else None


def measure(
    engines: Path, clip: Path, num_kills: int, seed: int, folder: Path
) -> dict[str, object]:
    """Run the service, the clients and the kills."""
    rng = random.Random(seed)
    service = Service(engines, folder)
    load = Load(service.address, clip.read_bytes())
    threads = load.start()
    try:
        wait_until_settled(load, time.monotonic())
        kills = [kill_one(service, load, kind, rng) for kind in plan(num_kills, rng)]
        for kind in KINDS:
            service.processes(kind)
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()
        stop_seconds = service.stop()
    back = [float(str(kill["back_seconds"])) for kill in kills]
    events = service.events()
    return {
        "kills": kills,
        "back_seconds": {**spread(back), "max": max(back)},
        "requests": len(load.calls),
        "failed": sum(call.error is not None for call in load.calls),
        "untyped": sum(str(call.error).startswith("untyped") for call in load.calls),
        "longest_request_seconds": max(call.ended - call.started for call in load.calls),
        "stop_seconds": stop_seconds,
        "exit_status": service.program.returncode,
        "orphans": service.orphans(),
        "shared_memory_files": service.shared_memory_files(),
        "events": Counter(str(event["event"]) for event in events),
        "supervisor_seconds": {
            name: [event["seconds"] for event in events if event["event"] == name]
            for name in ("model_reloaded", "server_restarted")
        },
    }


def broken_promises(results: dict[str, object]) -> list[str]:
    """Return what the service did not keep, of promises that hold on any machine."""
    promises = {
        "stops with status 0": results["exit_status"] == 0,
        "every error is typed": results["untyped"] == 0,
        "nothing hangs": float(str(results["longest_request_seconds"])) < REQUEST_TIMEOUT_SECONDS,
        "no orphan process": not results["orphans"],
        "no file in /dev/shm": not results["shared_memory_files"],
    }
    return [promise for promise, is_kept in promises.items() if not is_kept]


def slow(results: dict[str, object]) -> list[str]:
    """Return which times were missed; they are of this machine."""
    back = results["back_seconds"]
    assert isinstance(back, dict)
    times = {
        f"back within {MAX_BACK_SECONDS:.0f} s": back["max"] < MAX_BACK_SECONDS,
        f"stops within {MAX_STOP_SECONDS:.0f} s": float(str(results["stop_seconds"]))
        < MAX_STOP_SECONDS,
    }
    return [time for time, is_kept in times.items() if not is_kept]


def main() -> None:
    """Build engines where none are given, and kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    with prepared(parser, clip="bikes.mp4") as (args, folder):
        results = measure(args.engines, args.clip, args.kills, args.seed, folder)
    broken = [*broken_promises(results), *slow(results)]
    write_report(args.out, "time until the service is back after a SIGKILL", results)
    if broken:
        sys.exit(f"broken: {', '.join(broken)}")


if __name__ == "__main__":
    main()

"""Does a request fail while a server with other engines takes over? Switch under load and count.

python -m benchmarks.switch [--switches 2] [--engines DIR] [--clip MP4] [--out JSON]

Runs `groundserve serve` on a link to one of two engine directories that differ in identity alone.
Clients score a clip without a pause, two over one connection each and one over ever new ones, and
another makes HTTP connections anew; meanwhile the link is pointed elsewhere and SIGHUP is sent.
Exits with 1 where a request failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

from benchmarks._engines import prepared
from benchmarks._report import write_report
from benchmarks.kills import REQUEST_TIMEOUT_SECONDS, Service
from groundserve import Client, GroundserveError
from groundserve.manifest import MANIFEST_NAME

PAUSE_SECONDS = 0.05
SETTLE_SECONDS = 2.0
GIVE_UP_SECONDS = 120.0


class Load:
    """Clients of one service; what each was answered."""

    def __init__(self, service: Service, clip: bytes) -> None:
        """Ask nothing yet."""
        self._grpc, self._http = service.address, service.http_address
        self._clip = clip
        self._stop = threading.Event()
        self.answers: Counter[str] = Counter()
        """How often each identity answered; "http" for HTTP."""
        self.errors: Counter[str] = Counter()

    def start(self) -> list[threading.Thread]:
        """Start the clients."""
        targets = (self._keep, self._keep, self._renew, self._ask_http)
        threads = [threading.Thread(target=target) for target in targets]
        for thread in threads:
            thread.start()
        return threads

    def stop(self) -> None:
        """Have the clients end after the request that they wait for."""
        self._stop.set()

    def _keep(self) -> None:
        with Client(self._grpc, timeout_seconds=REQUEST_TIMEOUT_SECONDS) as client:
            while not self._stop.wait(PAUSE_SECONDS):
                self._score(client)

    def _renew(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            with Client(self._grpc, timeout_seconds=REQUEST_TIMEOUT_SECONDS) as client:
                self._score(client)

    def _ask_http(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                urllib.request.urlopen(f"{self._http}/v2/models/videoitg/ready", timeout=10).close()
                self.answers["http"] += 1
            except OSError as error:
                self.errors[f"HTTP: {error!r}"] += 1

    def _score(self, client: Client) -> None:
        try:
            result = client.score(self._clip, "When does something move?")
            self.answers[str(result.engine["id"])] += 1
        except GroundserveError as error:
            self.errors[f"{type(error).__name__}: {error}"] += 1


def point(link: Path, engines: Path) -> None:
    """Have a link name another directory, at no moment none."""
    new = link.with_name("next")
    new.symlink_to(engines)
    os.replace(new, link)


def rename_engines(engines: Path, out: Path) -> Path:
    """Copy an engine directory under another identity."""
    shutil.copytree(engines, out)
    manifest = json.loads((out / MANIFEST_NAME).read_text("utf-8"))
    manifest["source_config"]["copy"] = True
    (out / MANIFEST_NAME).write_text(json.dumps(manifest), "utf-8")
    return out


def wait_for_end(service: Service, number: int) -> None:
    """Wait until so many old servers have ended."""
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    while [event["event"] for event in service.events()].count("old_server_ended") < number:
        if time.monotonic() > give_up_at:
            raise SystemExit(f"no switch within {GIVE_UP_SECONDS:.0f} s: {service.events()}")
        time.sleep(0.2)


def measure(engines: Path, clip: Path, num_switches: int, folder: Path) -> dict[str, object]:
    """Run the service, the clients and the switches."""
    places = (engines.resolve(), rename_engines(engines, folder / "copy"))
    link = folder / "current"
    point(link, places[0])
    service = Service(link, folder)
    load = Load(service, clip.read_bytes())
    threads = load.start()
    try:
        for number in range(1, num_switches + 1):
            time.sleep(SETTLE_SECONDS)
            point(link, places[number % 2])
            service.program.send_signal(signal.SIGHUP)
            wait_for_end(service, number)
        time.sleep(SETTLE_SECONDS)
    finally:
        load.stop()
        for thread in threads:
            thread.join()
        service.stop()
    events = service.events()
    return {
        "answers": load.answers,
        "errors": load.errors,
        "seconds": {
            name: [event["seconds"] for event in events if event["event"] == name]
            for name in ("switched", "old_server_ended")
        },
        "events": Counter(str(event["event"]) for event in events),
        "exit_status": service.program.returncode,
    }


def main() -> None:
    """Build engines where none are given, and switch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--switches", type=int, default=2)
    with prepared(parser, clip="bikes.mp4") as (args, folder):
        results = measure(args.engines, args.clip, args.switches, folder)
    write_report(args.out, "requests that fail while another server takes over", results)
    if results["errors"]:
        sys.exit(f"requests failed: {results['errors']}")


if __name__ == "__main__":
    main()

"""Does the service live on when requests end tritonserver? Many such in a row, and honest ones.

python -m benchmarks.aborts [--aborts 20] [--engines DIR] [--clip MP4] [--out JSON]

Runs `groundserve serve` and sends, one after another, the requests of `ABORTS`, each of which ends
tritonserver 2.51. Newer servers refuse them (triton-inference-server/server): JSON deeper than 100
since 2.58 (f46557bec, #8172), `classification` of BYTES since 2.60 (251f8ae4b, #8267), a shape
larger than its body since 2.68 (e5aecb323, #8676). After each, an honest request is asked until it
is answered. Exits with 1 where it is not, or where the service ended.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks._engines import prepared
from benchmarks._report import spread, write_report
from benchmarks.kills import MAX_STOP_SECONDS, Service
from groundserve import Client, UnavailableError

DEPTH = 50_000
NUM_ELEMENTS = 10**12
TIMEOUT_SECONDS = 30.0
GIVE_UP_SECONDS = 60.0


def classification(grpc_url: str, http_url: str, clip: bytes) -> None:
    """Ask over gRPC for the largest classes of an output of texts."""
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    video = triton.InferInput("VIDEO", [len(clip)], "UINT8")
    video.set_data_from_numpy(np.frombuffer(clip, np.uint8))
    query = triton.InferInput("QUERY", [1], "BYTES")
    query.set_data_from_numpy(np.array([b"When?"], dtype=np.object_))
    output = triton.InferRequestedOutput("INFO", class_count=1)
    with (
        triton.InferenceServerClient(grpc_url.removeprefix("grpc://")) as client,
        suppress(InferenceServerException),
    ):
        client.infer("videoitg", [video, query], outputs=[output], client_timeout=TIMEOUT_SECONDS)


def nested_data(grpc_url: str, http_url: str, clip: bytes) -> None:
    """Send a text as lists within lists."""
    tensor = f'{{"name": "QUERY", "shape": [1], "datatype": "BYTES", "data": {_nested()}}}'
    _post(http_url, "infer", f'{{"inputs": [{tensor}]}}')


def nested_generate(grpc_url: str, http_url: str, clip: bytes) -> None:
    """Send the same to the API of generating models, which every model has."""
    _post(http_url, "generate", f'{{"QUERY": {_nested()}}}')


def huge_shape(grpc_url: str, http_url: str, clip: bytes) -> None:
    """Announce 10^12 numbers and send one."""
    tensor = f'{{"name": "VIDEO", "shape": [{NUM_ELEMENTS}], "datatype": "UINT8", "data": [1]}}'
    _post(http_url, "infer", f'{{"inputs": [{tensor}]}}')


ABORTS: dict[str, Callable[[str, str, bytes], None]] = {
    "classification": classification,
    "nested_data": nested_data,
    "nested_generate": nested_generate,
    "huge_shape": huge_shape,
}
"""Requests that end tritonserver 2.51 by name; each takes both addresses and a video."""


def ask_until_answered(address: str, clip: bytes) -> tuple[float, Counter[str]]:
    """Return how long it took until an honest request was answered, and the errors before."""
    started, errors = time.monotonic(), Counter[str]()
    with Client(address, timeout_seconds=TIMEOUT_SECONDS) as client:
        while time.monotonic() < started + GIVE_UP_SECONDS:
            try:
                client.score(clip, "When does something move?")
            except UnavailableError as error:
                errors[str(error)[:60]] += 1
                time.sleep(0.05)
            else:
                return time.monotonic() - started, errors
    raise SystemExit(f"no honest request was answered within {GIVE_UP_SECONDS:.0f} s")


def measure(engines: Path, clip: Path, num_aborts: int, folder: Path) -> dict[str, object]:
    """Run the service and the requests."""
    service, video = Service(engines, folder), clip.read_bytes()
    aborts = []
    try:
        ask_until_answered(service.address, video)
        for number in range(num_aborts):
            name = list(ABORTS)[number % len(ABORTS)]
            ABORTS[name](service.address, service.http_address, video)
            seconds, errors = ask_until_answered(service.address, video)
            aborts.append({"request": name, "back_seconds": seconds, "errors": errors})
    finally:
        stop_seconds = service.stop()
    events = service.events()
    back = [float(str(abort["back_seconds"])) for abort in aborts]
    return {
        "aborts": aborts,
        "back_seconds": {**spread(back), "max": max(back)},
        "waits_seconds": [e["seconds"] for e in events if e["event"] == "backing_off"],
        "stop_seconds": stop_seconds,
        "exit_status": service.program.returncode,
        "orphans": service.orphans(),
        "shared_memory_files": service.shared_memory_files(),
        "events": Counter(str(event["event"]) for event in events),
    }


def broken_promises(results: dict[str, object], num_aborts: int) -> list[str]:
    """Return what the service did not keep."""
    events = results["events"]
    assert isinstance(events, dict)
    promises = {
        "each request ends tritonserver (else it is no 2.51)": events["server_died"] == num_aborts,
        "each time it is started again": events["server_restarted"] == num_aborts,
        "stops with status 0": results["exit_status"] == 0,
        "no orphan process": not results["orphans"],
        "no file in /dev/shm": not results["shared_memory_files"],
        f"stops within {MAX_STOP_SECONDS:.0f} s": float(str(results["stop_seconds"]))
        < MAX_STOP_SECONDS,
    }
    return [promise for promise, is_kept in promises.items() if not is_kept]


def _nested() -> str:
    return "[" * DEPTH + '"a"' + "]" * DEPTH


def _post(http_url: str, action: str, body: str) -> None:
    connection = http.client.HTTPConnection(
        http_url.removeprefix("http://"), timeout=TIMEOUT_SECONDS
    )
    with suppress(OSError, http.client.HTTPException):
        connection.request("POST", f"/v2/models/videoitg/{action}", body)
        connection.getresponse().read()
    connection.close()


def main() -> None:
    """Build engines where none are given, and send the requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aborts", type=int, default=20)
    with prepared(parser, clip="carphone_pristine.mp4") as (args, folder):
        results = measure(args.engines, args.clip, args.aborts, folder)
    write_report(args.out, "time until the service is back after a request that aborts", results)
    if broken := broken_promises(results, args.aborts):
        sys.exit(f"broken: {', '.join(broken)}")


if __name__ == "__main__":
    main()

"""What is seen of a server from outside: processor time, memory, and Triton's own statistics."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import psutil
import tritonclient.grpc
import tritonclient.http
from geventhttpclient.response import HTTPParseError
from tritonclient.utils import InferenceServerException

from benchmarks._processes import name_of
from benchmarks._usage import cpu_seconds, tree, tree_peaks_mib
from groundserve.errors import UnavailableError

SPANS = ("queue", "compute_input", "compute_infer", "compute_output")
"""Triton's names of where a model's requests spend their time."""


@dataclass(frozen=True)
class Reading:
    """All counters at one moment; only differences of two mean anything."""

    at: float
    """On the clock of `time.perf_counter`."""
    server_cpu: dict[str, float]
    """Seconds by kind of process, with those of its children that ended; empty if not known."""
    generator_cpu: float
    """Seconds of this process and its children that ended."""
    statistics: dict[str, dict[str, tuple[int, int]]]
    """By model and span: requests and nanoseconds; "fail" is a span too."""


class ServerView:
    """Reads the counters of one server.

    Args:
        scheme: "grpc" or "http".
        address: HOST:PORT of that protocol.
        pid: Root of the server's processes; None where they are not on this machine or not known.
    """

    def __init__(self, scheme: str, address: str, pid: int | None) -> None:
        triton: Any = tritonclient.http if scheme == "http" else tritonclient.grpc
        self._client = triton.InferenceServerClient(address)
        self._arguments = {} if scheme == "http" else {"as_json": True}
        self._pid = pid

    def read(self) -> Reading:
        """Read all counters; takes some milliseconds.

        Raises:
            UnavailableError: The server is gone.
        """
        try:
            answer = self._client.get_inference_statistics(**self._arguments)
        # The latter two are what HTTP's client leaves of a connection that is refused or cut off.
        except (InferenceServerException, OSError, HTTPParseError) as error:
            # It does not come through a pipe: who waits for a load's process would hear of the
            # end of the process alone.
            raise UnavailableError(f"the server tells no statistics: {error}") from None
        own = os.times()
        return Reading(
            at=time.perf_counter(),
            server_cpu=cpu_seconds_by_kind(self._pid) if self._pid else {},
            generator_cpu=own.user + own.system + own.children_user + own.children_system,
            statistics={model["name"]: _spans(model) for model in answer["model_stats"]},
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def cpu_seconds_by_kind(pid: int) -> dict[str, float]:
    """Return the processor seconds so far of a process and all below it, by kind of process.

    A process that ended, and was waited for, counts to its parent's kind.

    Raises:
        UnavailableError: The process itself ended.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for process in _server_tree(pid):
        try:
            used, name = cpu_seconds(process), name_of(process)
        except psutil.NoSuchProcess:  # or a zombie, which is one too
            continue
        seconds[name] += used
    return dict(seconds)


def peak_memory(pid: int) -> dict[str, float]:
    """Return the largest resident memory so far of a process and all below it, in MiB.

    The sum counts what processes share once for each, and adds peaks of different moments: no
    moment needed more.

    Raises:
        UnavailableError: The process itself ended.
    """
    peaks = tree_peaks_mib(_server_tree(pid)[0].pid)
    return {"largest_process_mib": max(peaks), "sum_mib": sum(peaks)}


def milliseconds_by_model(first: Reading, last: Reading) -> dict[str, dict[str, float]]:
    """Return for each model that answered: requests, failures, and mean time of each span."""
    found = {}
    for model, spans in last.statistics.items():
        before = first.statistics.get(model, {})
        grown = {
            name: tuple(b - a for a, b in zip(before.get(name, (0, 0)), after, strict=True))
            for name, after in spans.items()
        }
        requests = grown["success"][0]
        if requests:
            found[model] = {"requests": requests, "failed": grown["fail"][0]} | {
                f"{name}_ms": grown[name][1] / requests / 1e6 for name in SPANS
            }
    return found


def _server_tree(pid: int) -> list[psutil.Process]:
    try:
        processes = tree(pid)
        # Of a process that ended the kernel may still know who waits for it.
        if processes[0].status() == psutil.STATUS_ZOMBIE:
            raise psutil.NoSuchProcess(pid)
    except psutil.NoSuchProcess:
        raise UnavailableError(f"the server's process {pid} ended") from None
    return processes


def _spans(model: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Read one model's counters; gRPC's JSON leaves out what is 0 and has numbers as texts."""
    spans = model["inference_stats"]
    return {
        name: (int(spans.get(name, {}).get("count", 0)), int(spans.get(name, {}).get("ns", 0)))
        for name in ("success", "fail", *SPANS)
    }

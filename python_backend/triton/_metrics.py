"""The metrics of ours, next to the server's own at :8002/metrics.

Every instance of every model is a process that makes the same families; the server adds up metrics
of equal name and labels. All of them start at 0, so that a rate exists from the first event on.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import triton_python_backend_utils as pb_utils

from python_backend.meter import CounterName
from python_backend.stopwatch import STAGES
from python_backend.triton._answer import Answer
from python_backend.triton._errors import ERROR_CLASSES, error_class

# From a hit in the cache (milliseconds) to half of the default `Limits.max_request_seconds`.
_STAGE_BUCKETS_SECONDS = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0]

_DESCRIPTIONS: dict[CounterName, str] = {
    "frames_decoded": "Frames decoded and resized",
    "vision_passes": "Chunks of one video sent through the vision encoder",
    "vision_frames": "Frames, or segments of several, sent through the vision encoder",
    "prefix_tokens": "Positions computed once for all questions of a request",
    "prompt_tokens": "Positions of questions behind those",
    "generated_tokens": "Tokens of answers",
    "cache_hits": "Requests whose features were in the cache",
    "cache_misses": "Requests whose features were computed, where there is a cache",
    "cache_evictions": "Entries removed to make room",
    "cache_corrupted": "Entries removed because they were damaged",
    "cache_failures": "Reads and writes of the cache that the disk refused",
    "worker_deaths": "Processes reading a video that died",
}


class Metrics:
    """A `Meter`, and what an answer or an error adds.

    One thread at a time: a metric that two change at once hands the server memory that the second
    has freed, which ends the server (triton-inference-server/python_backend 01d0ad8 and f9088ff,
    src/metric.cc, `Metric::SaveToSharedMemory`).
    """

    def __init__(self) -> None:
        """Register all families with the server; for `initialize` alone."""
        self._lock = threading.Lock()
        self._families: list[Any] = []  # a family that is collected takes its metrics with it
        # Collected in time, it would set to 0 what other processes have counted under its name
        # too; when the process ends, the memory that it tells the server through is gone by then,
        # and the process ends by SIGSEGV. So the list is never let go of.
        #
        # Source: triton-inference-server/python_backend 0a3b5af, src/metric.cc (`Metric::Clear`);
        # both seen with 2.51.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._families))
        self._counters = {
            name: self._family(f"groundserve_{name}_total", text, "COUNTER").Metric(labels={})
            for name, text in _DESCRIPTIONS.items()
        }
        self._cache_bytes = self._family(
            "groundserve_cache_bytes", "Bytes of the cache's files", "GAUGE"
        ).Metric(labels={})
        stages = self._family(
            "groundserve_stage_seconds", "Time of one request's stage", "HISTOGRAM"
        )
        self._stages: dict[str, Any] = {
            stage: stages.Metric(labels={"stage": stage}, buckets=_STAGE_BUCKETS_SECONDS)
            for stage in STAGES
        }
        errors = self._family(
            "groundserve_errors_total", "Requests answered with an error", "COUNTER"
        )
        self._errors = {name: errors.Metric(labels={"class": name}) for name in ERROR_CLASSES}

    def add(self, name: CounterName, amount: int = 1) -> None:
        """Implement `Meter.add`."""
        with self._lock:
            self._counters[name].increment(amount)

    def set_cache_bytes(self, num_bytes: int) -> None:
        """Implement `Meter.set_cache_bytes`."""
        with self._lock:
            self._cache_bytes.set(num_bytes)

    def observe(self, result: Answer | Exception) -> None:
        """Add the stages of an answered request, or its error."""
        with self._lock:
            if isinstance(result, Exception):
                self._errors[error_class(result)].increment(1)
            else:
                for stage, milliseconds in result.info["timing_ms"].items():
                    self._stages[stage].observe(milliseconds / 1000)

    def _family(self, name: str, description: str, kind: str) -> Any:
        # A name that another process registered with the same kind is shared, not an error.
        family = pb_utils.MetricFamily(
            name=name, description=description, kind=getattr(pb_utils.MetricFamily, kind)
        )
        self._families.append(family)
        return family

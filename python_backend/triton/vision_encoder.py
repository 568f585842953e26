"""The model `vision_encoder`: units of any videos -> features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.parent_watch import end_with_parent
from python_backend.arrays import Array
from python_backend.interruption import ending_with
from python_backend.triton._cancellation import cancellation_of
from python_backend.triton._context import ModelContext
from python_backend.triton._heap import keep_heap
from python_backend.triton._io import answer, attempt, read_deadline, read_tensors
from python_backend.triton._merge import encode_merged
from python_backend.triton._tensors import Tensors
from python_backend.warm_up import warm_up_encoder


class TritonPythonModel:
    """Encodes a dynamic batch, which may hold the units of several videos."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the profile's encoder."""
        context = ModelContext.load(args)
        manifest = context.engine.manifest
        self._limits = Limits.from_environment()
        self._inputs = VisionInputs.of(manifest.seam, manifest.model)
        if manifest.device == "cpu":
            keep_heap()
        self._encoder = context.engine.open_encoder(num_threads=context.num_threads)
        if manifest.device == "cuda":
            warm_up_encoder(self._encoder, manifest)
        end_with_parent()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Encode all calls together; one that is refused fails alone, and order is kept."""
        items = [attempt(self._read, request) for request in requests]
        valid = [item for item in items if not isinstance(item, Exception)]
        encoded = iter(self._encode(*zip(*valid, strict=True)) if valid else ())
        results = [item if isinstance(item, Exception) else next(encoded) for item in items]
        return [answer(*pair) for pair in zip(requests, results, strict=True)]

    def _read(self, request: Any) -> tuple[Tensors, Deadline]:
        deadline = read_deadline(request, self._limits, is_cancelled=cancellation_of(request))
        # Plan inputs come to the host, where they are compared.
        return read_tensors(request, stay_on_gpu=self._inputs.stream_names), deadline

    def _encode(
        self, calls: Sequence[Tensors], deadlines: Sequence[Deadline]
    ) -> Sequence[Tensors | Exception]:
        features = attempt(self._pass, calls, deadlines)
        if isinstance(features, Exception):
            # They were one pass, so nobody can tell whose frames made it fail.
            return [features] * len(calls)
        return [{"FEATURES": part} for part in features]

    def _pass(self, calls: Sequence[Tensors], deadlines: Sequence[Deadline]) -> list[Array]:
        # It goes on as long as anybody waits for it.
        last = max(deadlines, key=Deadline.remaining_seconds)
        together = replace(last, is_cancelled=lambda: all(map(_is_cancelled, deadlines)))
        with ending_with(together):
            return encode_merged(calls, self._encoder.encode, self._inputs)


def _is_cancelled(deadline: Deadline) -> bool:
    return deadline.is_cancelled is not None and deadline.is_cancelled()

"""The model `admission`: lets a request in, or refuses it before anything is done for it.

Triton's own queues refuse as well, but each looks at one model alone: a request could wait, be
decoded and then find the next queue full. And Triton counts none of those whom it refuses so
(triton-inference-server/core 73aad7c, src/infer_request.cc, `InferenceRequest::Run`).
"""

from __future__ import annotations

import os
from typing import Any, get_args

import numpy as np

from groundserve.arguments import check_head
from groundserve.deadline import Deadline
from groundserve.families.base import Head
from groundserve.heartbeat import start_heartbeat
from groundserve.limits import Limits
from groundserve.triton_messages import HEAD
from python_backend.triton._answer import Answer
from python_backend.triton._context import ModelContext
from python_backend.triton._io import answer_each
from python_backend.triton._metrics import Metrics
from python_backend.triton._parameters import read_parameters
from python_backend.triton._queues import open_door
from python_backend.triton._report import observe_log, observe_metrics
from python_backend.triton._tensors import Tensors


class TritonPythonModel:
    """Takes no time, so that whoever is refused is refused at once."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read how many may wait, and where the server says how many do."""
        context = ModelContext.load(args)
        self._limits = Limits.from_environment()
        self._manifest = context.engine.manifest
        self._door = open_door(int(context.parameters["max_waiting"]), os.environ)
        self._observers = [observe_metrics(Metrics()), observe_log("admission")]
        start_heartbeat()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with ADMITTED or an error."""
        return answer_each(
            requests,
            self._admit,
            limits=self._limits,
            observers=self._observers,
            check=self._check_head,
        )

    def finalize(self) -> None:
        """Close the connection to the metrics."""
        if self._door is not None:
            self._door.close()

    def _check_head(self, request: Any) -> None:
        """Refuse what the engines do not answer, before its video is sent."""
        called = read_parameters(request).get(HEAD)
        # Whoever calls the ensemble named the family, and says nothing of heads.
        for head in get_args(Head):
            if called == head:
                check_head(self._manifest.family, self._manifest.head, called=head)

    def _admit(self, tensors: Tensors, deadline: Deadline) -> Answer:
        # None in a server that was not told where its metrics are: Triton's own queues are the
        # bound.
        if self._door is not None:
            self._door.check()
        # The value says nothing: the ensemble's next step waits for the tensor.
        return Answer(outputs={"ADMITTED": np.ones(1, np.uint8)})

"""A worker process seen from the process that started it: start, call, kill, start again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    MediaError,
    UnavailableError,
)
from groundserve.media._config import WorkerConfig
from groundserve.media._wire import Message, WireError, receive_message, send_message

_ERRORS: dict[str, type[GroundserveError]] = {
    error.__name__: error for error in (InvalidRequestError, MediaError)
}


class WorkerProcess:
    """A place for one worker: started at the first call, replaced after it died or was killed.

    `call` is for one thread at a time; `close` may come from any.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._is_closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running worker, None while there is none."""
        return self._process.pid if self._process else None

    def call(
        self,
        job: str,
        *,
        deadline: Deadline,
        fields: Mapping[str, Any] | None = None,
        arrays: Mapping[str, NDArray[np.generic]] | None = None,
        fd: int | None = None,
    ) -> Message:
        """Do a job in the worker.

        Raises:
            MediaError, InvalidRequestError: As the worker answered.
            DeadlineExceededError: No answer in time; the worker was killed.
            UnavailableError: The worker died, or the pool is closed.
        """
        deadline.check()
        peer = self._start()
        message = Message(
            fields={"job": job, "seconds": deadline.remaining_seconds(), **(fields or {})},
            arrays=dict(arrays or {}),
        )
        try:
            with _Timer(peer, deadline):
                pass
        except TimeoutError:
            self.kill()
        return message

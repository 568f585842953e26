"""How many requests wait in this server, as the server itself tells.

Its metrics are the one place where Triton tells how long its queues are; a count of our own would
drift with every request that is given up, or whose process dies, between two steps.
"""

from __future__ import annotations

import http.client
import math
import re
import time
from collections.abc import Mapping

from groundserve.errors import UnavailableError

METRICS_ADDRESS_VARIABLE = "GROUNDSERVE_METRICS_ADDRESS"
"""Environment variable with HOST:PORT of the server's metrics; `groundserve serve` sets it."""

_TIMEOUT_SECONDS = 1.0
_LOOK_SECONDS = 1.0
"""How long a look at the metrics is of use: it does not see whom others let in, who call the models
behind the door themselves."""
_PENDING = re.compile(
    r'^nv_inference_pending_request_count\{model="(?:video_features|grounding|generation)",'
    r".*\} (\d+)$",
    re.MULTILINE,
)
"""`vision_encoder` and `video_decode` only ever hold what `video_features` sent them."""


class Door:
    """Lets requests in while few enough wait."""

    def __init__(self, *, max_waiting: int, metrics_address: str) -> None:
        """Connect lazily.

        Args:
            max_waiting: Requests that may wait before the next is refused.
            metrics_address: HOST:PORT of the server's metrics.
        """
        self._max_waiting = max_waiting
        # Kept open from request to request; one thread at a time uses it, for `execute` of one
        # instance runs once at a time.
        self._connection = http.client.HTTPConnection(metrics_address, timeout=_TIMEOUT_SECONDS)
        # Who waited at the last look, and all who were let in since.
        self._most_waiting = math.inf
        self._look_again_at = -math.inf

    def check(self) -> None:
        """Refuse the request where too many wait already.

        The metrics are looked at where it may be that too many wait, and where the last look is a
        second old: one takes some 0.5 ms of processor time, the server's included. Where they do
        not answer everybody is let in, and Triton's own queues are the bound.

        Raises:
            UnavailableError: Too many requests wait.
        """
        now = time.monotonic()
        if self._most_waiting >= self._max_waiting or now >= self._look_again_at:
            num_waiting = self._look()
            if num_waiting is None:
                self._most_waiting = math.inf
                return
            self._most_waiting, self._look_again_at = num_waiting, now + _LOOK_SECONDS
            if num_waiting >= self._max_waiting:
                raise UnavailableError(
                    f"{num_waiting} requests wait already, this server lets {self._max_waiting} "
                    "wait; try again later"
                )
        self._most_waiting += 1

    def _look(self) -> int | None:
        """Return how many wait, None where the metrics do not answer."""
        try:
            self._connection.request("GET", "/metrics")
            text = self._connection.getresponse().read().decode()
        # Also where the server closed the idle connection: that one request is let in unlooked at.
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request connects again
            return None
        return count_waiting(text)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def open_door(max_waiting: int, environment: Mapping[str, str]) -> Door | None:
    """Return the door of this server, None where nobody says where its metrics are.

    Args:
        max_waiting: See `Door`.
        environment: Variables of the process.
    """
    address = environment.get(METRICS_ADDRESS_VARIABLE)
    return Door(max_waiting=max_waiting, metrics_address=address) if address else None


def count_waiting(metrics: str) -> int:
    """Return the requests that wait for a step, from the text of the server's metrics."""
    return sum(map(int, _PENDING.findall(metrics)))

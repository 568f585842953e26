"""What the starting process tells a worker on its command line."""

from __future__ import annotations

import json
from dataclasses import dataclass

from groundserve.limits import Limits


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Fixed for a worker's life."""

    address_space_bytes: int
    """`RLIMIT_AS`: virtual memory."""
    num_threads: int
    limits: Limits

    def to_json(self) -> str:
        """Render as one command-line argument."""
        return json.dumps(vars(self) | {"limits": vars(self.limits)})

    @classmethod
    def from_json(cls, text: str) -> WorkerConfig:
        """Read `to_json`'s text."""
        # No checks: the text comes from `to_json` in the process that starts this one.
        fields = json.loads(text)
        return cls(**fields | {"limits": Limits(**fields["limits"])})

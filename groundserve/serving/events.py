"""What the supervisor saw and did, one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

logger = logging.getLogger(__name__)


def log_event(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log an event with fields that JSON can hold, such as pid and seconds; never a secret."""
    logger.log(level, event, extra={"fields": fields})


def log_to_stderr() -> None:
    """Write events on stderr from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter())
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, event and the event's fields."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        # `default`: a field may be a path; an event is never lost over its type.
        return json.dumps(line, ensure_ascii=False, default=str)

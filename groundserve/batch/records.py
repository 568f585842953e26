"""DIR/records.jsonl: the reference's line for each scored row, in the manifest's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from groundserve.batch.plan import Plan

if TYPE_CHECKING:
    from groundserve.batch.storage import Storage

RECORDS_NAME = "records.jsonl"


def write_records(storage: Storage, plan: Plan) -> int:
    """Write the lines, sorted on disk in pieces so that memory does not grow with the run.

    Returns:
        Lines written: one for each row that has frame scores.
    """
    raise NotImplementedError

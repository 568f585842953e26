"""Scored questions as lines of JSON that downstream harnesses read; docs/records.md has the format.

`record` has the two kinds of line and their ids, `reading` and `writing` files of them, `agreement`
compares two files.
"""

from groundserve.records.agreement import Agreement, compare_files, compare_records, kendall_tau
from groundserve.records.reading import RecordFile, read_record_file, read_records
from groundserve.records.record import (
    DocId,
    FrameRecord,
    Record,
    SelectionRecord,
    make_doc_id,
    make_record,
    make_selection_record,
)
from groundserve.records.writing import add_records, append_records, check_records

__all__ = [
    "Agreement",
    "DocId",
    "FrameRecord",
    "Record",
    "RecordFile",
    "SelectionRecord",
    "add_records",
    "append_records",
    "check_records",
    "compare_files",
    "compare_records",
    "kendall_tau",
    "make_doc_id",
    "make_record",
    "make_selection_record",
    "read_record_file",
    "read_records",
]

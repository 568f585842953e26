"""Scored questions as lines of JSON that downstream harnesses read; docs/score.md has the format.

`record` has the two kinds of line and their ids, `reading` and `writing` files of them, `agreement`
compares two files of them, or two of answers in text.
"""

from groundserve.records.agreement import (
    Agreement,
    AnswerAgreement,
    compare_answer_files,
    compare_files,
    compare_records,
    holds_answers,
    kendall_tau,
)
from groundserve.records.reading import read_records
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
    "AnswerAgreement",
    "DocId",
    "FrameRecord",
    "Record",
    "SelectionRecord",
    "add_records",
    "append_records",
    "check_records",
    "compare_answer_files",
    "compare_files",
    "compare_records",
    "holds_answers",
    "kendall_tau",
    "make_doc_id",
    "make_record",
    "make_selection_record",
    "read_records",
]

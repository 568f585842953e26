"""Hand-over to Video-LLMs: scored questions as the files that their harnesses read.

`sources` and `batch_rows` read what was scored, into `rows`; `lmms_eval`, `qvhighlights` and
`conversations` write a line of it, with the pictures of `images` and the ids of `numbering`;
`export` does one after the other, by `options`, and `writing` makes the file appear whole.
docs/handover.md has the formats and their readers.
"""

from groundserve.exports.export import Exported, export
from groundserve.exports.numbering import read_numbers
from groundserve.exports.options import ExportFormat, ExportOptions, check_options

__all__ = [
    "ExportFormat",
    "ExportOptions",
    "Exported",
    "check_options",
    "export",
    "read_numbers",
]

"""Hand-over to Video-LLMs: scored questions as the files that their harnesses read.

`sources` and `batch_rows` read what was scored, into `rows`; `lmms_eval`, `qvhighlights` and
`conversations` write a line of it, with `pictures`, maybe `decoded_pictures`, and the ids of
`numbering`; `assembly` does so for all rows and counts, `writing` makes the file appear whole, and
`export` is all of it, by `options`.
docs/handover.md has the formats and their readers.
"""

from groundserve.exports.assembly import Exported
from groundserve.exports.export import export
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

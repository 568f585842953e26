"""Hand-over to Video-LLMs: scored questions as the files that their harnesses read.

docs/handover.md has the formats and their readers.
"""

from groundserve.exports.export import export
from groundserve.exports.lines import Exported
from groundserve.exports.options import ExportFormat, ExportOptions, check_options, read_numbers

__all__ = [
    "ExportFormat",
    "ExportOptions",
    "Exported",
    "check_options",
    "export",
    "read_numbers",
]

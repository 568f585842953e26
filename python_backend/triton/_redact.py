"""Text for the log, without what a caller wrote."""

from __future__ import annotations

import re
import traceback

# From the first mark to the last one, greedily: a question may hold quotation marks itself.
_QUOTED = re.compile(
    r'"(?:.*"|.*$)'  # also one that was cut off
    r"|(?:(?<!\w)|(?<=\bb))'(?:.*'(?!\w)|.*$)",  # but not the apostrophe in "the video's codec"
    re.DOTALL,
)


def without_quotations(text: str) -> str:
    """Return the text with "..." for all from the first quotation mark to the last.

    Every message of ours quotes what it repeats of a request (questions, options, names of files),
    and so do those of Python. Numbers stay.
    """
    return _QUOTED.sub('"..."', text)


def describe_failure(error: BaseException) -> str:
    """Return a traceback with where and what, and without quotations."""
    # Without the values of variables; messages of errors are all that could repeat a request.
    lines = traceback.TracebackException.from_exception(error).format()
    return "".join(
        # Paths of our code and its lines, in quotation marks that are Python's own.
        line if line.startswith("  File ") else without_quotations(line.rstrip("\n")) + "\n"
        for line in lines
    )

"""Entry point of the `groundserve` command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from itertools import takewhile
from typing import Any

from groundserve import extras
from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.runtime.own_packages import require_own

EXIT_FAILURE = 1
"""The command was right, and it failed."""
EXIT_CALLER_ERROR = 2
"""The command or what it was given is wrong; the same again fails again."""
EXIT_INTERRUPTED = 130
"""Ctrl-C: 128 and the number of the signal, as shells have it."""

PROGRAM = "groundserve"


def main() -> None:
    """Run the command line; expected errors are one line on stderr, never a traceback.

    With `--json` among the arguments, an error is also one JSON object on stdout.
    """
    try:
        _open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # names of files need not be text of any encoding
                stream.reconfigure(errors="backslashreplace")
        code = _run()
        if code == EXIT_INTERRUPTED:  # what typer makes of Ctrl-C in a command
            raise KeyboardInterrupt
        sys.stdout.flush()  # what cannot be written is told, and not by Python as it ends
        sys.exit(code)
    except InvalidRequestError as error:
        _fail(error, str(error), EXIT_CALLER_ERROR)
    except GroundserveError as error:
        _fail(error, str(error), EXIT_FAILURE)
    except KeyboardInterrupt:
        # A second one, while threads and libraries end, would print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        sys.stderr.close()
        sys.exit(EXIT_FAILURE)
    except OSError as error:  # a full disk, a folder that may not be written to
        where = f"{error.filename}: " if error.filename else ""
        _fail(error, f"{where}{error.strerror or error}", EXIT_FAILURE)
    finally:
        _drop_unwritten()


def _open_closed_streams() -> None:
    """Give the streams that the shell closed (`>&-`) a place that takes everything.

    Else the next file that is opened gets a stream's number, and with it what libraries write
    there; and `print` to a stderr that is None goes to stdout.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: the stream's own
            os.set_inheritable(descriptor, True)
            if name != "stdin":  # None says that there is nothing to read
                setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8"))


def _drop_unwritten() -> None:
    """Forget what a stream does not take; Python would try again as it ends, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):  # no stream of the system's
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except ValueError:  # closed by us, since its reader went away
            pass


def _run() -> int:
    """Run the command that the arguments name; returns the exit code."""
    for package in ("engine_build", "python_backend"):
        require_own(package)
    app = extras.load("groundserve.cli.app", "serve")
    # The root of all that is wrong with a command line; typer does not export it by its own name.
    usage_error: Any = app.typer.BadParameter.__base__
    try:
        code: int | None = app.make_command().main(prog_name=PROGRAM, standalone_mode=False)
    except usage_error as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # which has printed the help
            message = error.format_message()
            stop = "" if message.endswith((".", "?")) else "."
            path = error.ctx.command_path if error.ctx else PROGRAM
            message = f"{message}{stop} See: {path} --help"
            _fail(error, message, EXIT_CALLER_ERROR, kind="UsageError")
        code = EXIT_CALLER_ERROR
    return code or 0


def _fail(error: Exception, message: str, code: int, *, kind: str | None = None) -> None:
    message = " ".join(message.split())
    try:
        from groundserve.cli._output import print_json, say_error
    except ImportError:  # without the extra that brings rich
        print(f"{PROGRAM}: error: {message}", file=sys.stderr)
        sys.exit(code)
    # Where one of the two takes nothing, the other and the exit code still say what was wrong.
    with suppress(OSError):
        say_error(f"{PROGRAM}: error: {message}")
    if _wants_json(sys.argv[1:]):
        fields = {
            "type": kind or type(error).__name__,
            "message": message,
            "exit_code": code,
            "request_id": getattr(error, "request_id", None),
        }
        with suppress(OSError):
            print_json({"error": fields})
    sys.exit(code)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Tell whether --json is given; an error may come before the arguments are understood."""
    return "--json" in takewhile(lambda argument: argument != "--", arguments)


if __name__ == "__main__":  # torchrun -m groundserve.cli.main
    main()

"""Entry point of the `groundserve` command."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from groundserve.errors import GroundserveError, InvalidRequestError, MissingExtraError

if TYPE_CHECKING:
    from typer import Typer

EXIT_FAILURE = 1
"""The command was right, and it failed."""
EXIT_CALLER_ERROR = 2
"""The command or what it was given is wrong; the same again fails again."""
EXIT_INTERRUPTED = 130
"""Ctrl-C: 128 and the number of the signal, as shells have it."""

_EPILOG = """Exit codes: 0 done; 1 failed (unavailable, engines that do not match, no room, ...);
2 the command or its input is wrong; 130 Ctrl-C. `serve` ends with 0 on Ctrl-C and SIGTERM;
`train` has 75, go on with --resume. docs/operations.md"""


def main() -> None:
    """Run the command line; expected errors are one line on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files need not be text of any encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        app = _app()
        app()
    except InvalidRequestError as error:
        _fail(str(error), EXIT_CALLER_ERROR)
    except GroundserveError as error:
        _fail(str(error), EXIT_FAILURE)
    except KeyboardInterrupt:  # before a command runs; then typer ends it with the same code
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        sys.stderr.close()
        sys.exit(EXIT_FAILURE)
    except OSError as error:  # a full disk, a folder that may not be written to
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", EXIT_FAILURE)


def _app() -> Typer:
    try:
        import typer
    except ImportError as error:
        raise MissingExtraError("serve", "typer") from error
    from groundserve.cli import build, compare, doctor, eval, score, serve, train

    app = typer.Typer(
        name="groundserve",
        help="Ask a video a question; get the frames and moments that matter.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode="rich",
        epilog=_EPILOG,
    )
    for module in (score, build, serve, doctor, compare):
        app.command(module.NAME)(module.command)
    for group in (eval, train):
        app.add_typer(group.app, name=group.NAME)

    @app.callback()
    def options(verbose: bool = typer.Option(False, "--verbose", help="Log to stderr.")) -> None:
        import logging

        level = logging.INFO if verbose else logging.WARNING
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")

    return app


def _fail(message: str, code: int) -> None:
    print(f"groundserve: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":  # torchrun -m groundserve.cli.main
    main()

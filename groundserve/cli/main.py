"""Entry point of the `groundserve` command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from groundserve.errors import GroundserveError, InvalidRequestError, MissingExtraError

if TYPE_CHECKING:
    from typer import Typer

EXIT_CALLER_ERROR = 2
EXIT_FAILURE = 1


def main() -> None:
    """Run the command line; errors of groundserve are one line on stderr, never a traceback."""
    try:
        app = _app()
        app()
    except (InvalidRequestError, MissingExtraError) as error:
        _fail(error, EXIT_CALLER_ERROR)
    except GroundserveError as error:
        _fail(error, EXIT_FAILURE)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        sys.stderr.close()
        sys.exit(EXIT_FAILURE)


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
    )
    for module in (score, build, serve, doctor, compare, eval):
        app.command(module.NAME)(module.command)
    app.add_typer(train.app, name=train.NAME)

    @app.callback()
    def options(verbose: bool = typer.Option(False, "--verbose", help="Log to stderr.")) -> None:
        import logging

        level = logging.INFO if verbose else logging.WARNING
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")

    return app


def _fail(error: Exception, code: int) -> None:
    message = " ".join(str(error).split())
    print(f"groundserve: error: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":  # torchrun -m groundserve.cli.main
    main()

"""All commands, put together when the command line runs: to import them takes a while."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from groundserve._version import __version__
from groundserve.cli import (
    ask,
    batch,
    build,
    compare,
    doctor,
    eval,
    export,
    score,
    serve,
    train,
)
from groundserve.cli._speech import begin, offer_speech

# Lines stay as they are: each fits in 80 columns.
_EPILOG = """Exit codes: 0 done; 1 failed (unavailable, engines that do not match, ...);
2 the command or its input is wrong; 130 Ctrl-C. `serve` ends with 0 on Ctrl-C
and SIGTERM; `train` has 75, go on with --resume. docs/score.md"""


def make_command() -> Any:
    """Return the whole command line as typer runs it, told nothing yet."""
    begin()
    app = typer.Typer(
        name="groundserve",
        help="Ask a video a question; get the frames and moments that matter.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["--help", "-h"]},
        epilog=_EPILOG,
    )
    app.callback()(_options)
    for module in (score, ask, build, serve, doctor, compare, export):
        app.command(module.NAME)(module.command)
    for group in (batch, eval, train):
        app.add_typer(group.app, name=group.NAME)
    command = typer.main.get_command(app)
    offer_speech(command)
    return command


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"groundserve {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass

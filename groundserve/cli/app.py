"""All commands, put together when the command line runs: to import them takes a while."""

from __future__ import annotations

import logging
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
    gateway,
    score,
    serve,
    train,
)
from groundserve.cli._output import stderr
from groundserve.errors import InvalidRequestError

# Not the root of all loggers: an export of torch says hundreds of lines at INFO.
_PACKAGES = ("groundserve", "engine_build", "python_backend", "train")
# Lines stay as they are: each fits in 80 columns.
_EPILOG = """Exit codes: 0 done; 1 failed (unavailable, engines that do not match, ...);
2 the command or its input is wrong; 130 Ctrl-C. `serve` ends with 0 on Ctrl-C
and SIGTERM; `train` has 75, go on with --resume. docs/score.md"""


def make_command() -> Any:
    """Return the whole command line as typer runs it, told nothing yet."""
    _begin()
    app = typer.Typer(
        name="groundserve",
        help="Ask a video a question; get the frames and moments that matter.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["--help", "-h"]},
        epilog=_EPILOG,
    )
    app.callback()(_root)
    for module in (score, ask, build, serve, gateway, doctor, compare, export):
        app.command(module.NAME)(module.command)
    app.command(gateway.KEY_NAME)(gateway.key_command)
    for group in (batch, eval, train):
        app.add_typer(group.app, name=group.NAME)
    command = typer.main.get_command(app)
    _offer_speech(command)
    return command


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"groundserve {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def _begin() -> None:
    """Set up logging, and forget what an earlier command of this process was told."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    _set_level(logging.NOTSET)
    stderr.quiet = False


def _offer_speech(command: Any) -> None:
    """Add --quiet and --verbose to a command of typer's, and to all below it."""
    options = typer.Typer(add_completion=False)
    options.command()(_speech)
    command.params += typer.main.get_command(options).params
    for below in getattr(command, "commands", {}).values():
        _offer_speech(below)


def _set_speech(option: typer.CallbackParam, is_given: bool) -> None:
    if not is_given:
        return
    if option.name == "quiet":
        stderr.quiet = True
    else:
        _set_level(logging.INFO)
    if stderr.quiet and logging.getLogger(_PACKAGES[0]).level == logging.INFO:
        raise InvalidRequestError("give one of --quiet and --verbose, not both")


def _set_level(level: int) -> None:
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(level)


def _speech(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="No progress and no notes; warnings and errors still.",
            callback=_set_speech,
            expose_value=False,  # what it sets is not one command's
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            help="Log on stderr what is done.",
            callback=_set_speech,
            expose_value=False,
        ),
    ] = False,
) -> None:
    pass

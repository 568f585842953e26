"""`--quiet` and `--verbose`, which every command takes before and after its name."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer

from groundserve.cli._output import stderr
from groundserve.errors import InvalidRequestError

# Not the root of all loggers: an export of torch says hundreds of lines at INFO.
_PACKAGES = ("groundserve", "engine_build", "python_backend", "train")


def begin() -> None:
    """Set up logging, and forget what an earlier command of this process was told."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger().setLevel(logging.WARNING)
    _set_level(logging.NOTSET)
    stderr.quiet = False


def offer_speech(command: Any) -> None:
    """Add the two options to a command of typer's, and to all below it."""
    app = typer.Typer(add_completion=False)
    app.command()(_options)
    command.params += typer.main.get_command(app).params
    for below in getattr(command, "commands", {}).values():
        offer_speech(below)


def _set_quiet(is_given: bool) -> None:
    if is_given:
        stderr.quiet = True
        _refuse_both()


def _set_verbose(is_given: bool) -> None:
    if is_given:
        _set_level(logging.INFO)
        _refuse_both()


def _set_level(level: int) -> None:
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(level)


def _refuse_both() -> None:
    if stderr.quiet and logging.getLogger(_PACKAGES[0]).level == logging.INFO:
        raise InvalidRequestError("give one of --quiet and --verbose, not both")


def _options(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="No progress and no notes; warnings and errors still.",
            callback=_set_quiet,
            expose_value=False,  # what it sets is not one command's
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            help="Log on stderr what is done.",
            callback=_set_verbose,
            expose_value=False,
        ),
    ] = False,
) -> None:
    pass

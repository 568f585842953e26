"""`--quiet` and `--verbose`, which every command takes before and after its name."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

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


def offer_speech(app: typer.Typer) -> None:
    """Add the two options to an application, to all of its commands and to theirs."""
    if app.registered_callback is None:
        app.callback()(_nothing)
    assert app.registered_callback is not None
    assert app.registered_callback.callback is not None
    app.registered_callback.callback = _with_options(app.registered_callback.callback)
    for command in app.registered_commands:
        assert command.callback is not None
        command.callback = _with_options(command.callback)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        offer_speech(group.typer_instance)


def _nothing() -> None:
    pass


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    if _QUIET.name in inspect.signature(command).parameters:
        return command  # an application's module is made once, the whole of it at each start

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for option in (_QUIET, _VERBOSE):
            kwargs.pop(option.name, None)
        return command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    parameters = [*signature.parameters.values(), _QUIET, _VERBOSE]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapped


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


def _option(name: str, text: str, callback: Callable[[bool], None]) -> inspect.Parameter:
    # What it sets is not one command's: none has it among its parameters.
    default = typer.Option(False, f"--{name}", help=text, callback=callback, expose_value=False)
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=bool)


_QUIET = _option("quiet", "No progress and no notes; warnings and errors still.", _set_quiet)
_VERBOSE = _option("verbose", "Log on stderr what is done.", _set_verbose)

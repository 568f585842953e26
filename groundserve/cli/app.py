"""All commands; the module of each is imported when it is called, since that takes a while."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from groundserve import extras
from groundserve._version import __version__
from groundserve.cli._output import stderr
from groundserve.errors import InvalidRequestError

# Not the root of all loggers: an export of torch says hundreds of lines at INFO.
_PACKAGES = ("groundserve", "engine_build", "python_backend", "train")
# Lines stay as they are: each fits in 80 columns.
_EPILOG = """Exit codes: 0 done; 1 failed (unavailable, engines that do not match, ...);
2 the command or its input is wrong; 130 Ctrl-C. `serve` ends with 0 on Ctrl-C
and SIGTERM; `train` has 75, go on with --resume. docs/score.md"""
_COMMANDS = {
    "demo": (
        "demo:command",
        "Draw a video, build engines, serve them, score the video, stop the server, and ask.",
    ),
    "score": ("score:command", "Score a video's frames for one or more questions."),
    "ask": (
        "ask:command",
        "Ask a model that answers in text about a video: when something happens, or what.",
    ),
    "build": (
        "build:command",
        "Build the engine directory that `serve`, `score --engines` and `ask --engines` load.",
    ),
    "serve": (
        "serve:command",
        "Serve an engine directory until Ctrl-C or SIGTERM; what dies meanwhile is started again.",
    ),
    "gateway": (
        "gateway:command",
        "Answer HTTP in front of one server or several, until Ctrl-C or SIGTERM.",
    ),
    "gateway-key": (
        "gateway:key_command",
        "Make an API key and print it; the file keeps its hash alone.",
    ),
    "download": (
        "download:command",
        "Download a published checkpoint: licence first, at a pinned commit, each file checked.",
    ),
    "doctor": (
        "doctor:command",
        "Check this machine; with --checkpoint, say what decides a checkpoint's scores or answers.",
    ),
    "compare": (
        "compare:command",
        "Compare two JSONL files of scored frames, or of answers in text.",
    ),
    "export": ("export:command", "Hand the frames of scored questions over to a Video-LLM."),
    "batch": (
        "batch:app",
        "Score a corpus, as a run that resumes; batch status DIR: how far one is.",
    ),
    "annotate": (
        "annotate:app",
        "Make training data from videos; annotate audit DIR FILE: what people say of a sample.",
    ),
    "eval": (
        "eval:app",
        "Measure how well frames are ranked, spans found and absent things told.",
    ),
    "train": (
        "train:app",
        "Train one stage and write a checkpoint that `build` and `score` take.",
    ),
}
"""By name where a command is, in which module of this package, and the start of its help."""


class _Commands(TyperGroup):
    """Lists the commands as `_COMMANDS` has them, and imports the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and load_command(name), rest


def make_command() -> Any:
    """Return the whole command line as typer runs it, told nothing yet."""
    _begin()
    app = typer.Typer(
        cls=_Commands,
        name="groundserve",
        help="Ask a video a question; get the frames and moments that matter.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["--help", "-h"]},
        epilog=_EPILOG,
    )
    app.callback()(_root)
    for name, (_, summary) in _COMMANDS.items():
        app.command(name, help=summary)(lambda: None)
    command = typer.main.get_command(app)
    _offer_speech(command)
    return command


def load_command(name: str) -> Any:
    """Return a command as typer runs it."""
    module, _, attribute = _COMMANDS[name][0].partition(":")
    found = getattr(extras.load(f"groundserve.cli.{module}", "serve"), attribute)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(name)(found)
        command = typer.main.get_command(alone)
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

"""The command line in this process: it answers as a process of its own would, without its start.

Start one for what a process alone has: an entry point, signals, a pipe that is read while it runs,
torchrun.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, NamedTuple
from unittest import mock

from groundserve.cli.main import main

MP4 = b"\0\0\0\x14ftypisom\0\0\0\0isom\0\0\0\x0cmoovvide"
"""Boxes that tell of a track of video, and none: for tests in which nobody decodes."""

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def part_options(parts: Mapping[str, Sequence[object]]) -> list[str]:
    """Return the options of a command line that name parts of a checkpoint."""
    values = [f"{name}={value}" for name, values in parts.items() for value in values]
    return [word for value in values for word in ("--part", value)]


class Finished(NamedTuple):
    """What a command left: its exit code, and all that it said."""

    code: int
    stdout: str
    stderr: str


def run_cli(
    *args: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Finished:
    """Run `groundserve ARGS` here, and leave this process as it was.

    Args:
        args: What follows `groundserve`, each turned into text.
        cwd: Folder to run in; None stays in this one.
        env: Variables beside those of this process.
        stdin: What `sys.stdin` gives.

    Returns:
        The code, and what was written to both streams, libraries in C and child processes included.
        What `main` raises is raised: as a process it would show a traceback.
    """
    argv = ["groundserve", *map(str, args)]
    with ExitStack() as stack:
        stack.enter_context(_process_state_kept())
        stack.enter_context(mock.patch.dict(os.environ, env or {}))
        stack.enter_context(mock.patch.object(sys, "argv", argv))
        stack.enter_context(mock.patch.object(sys, "stdin", TextIOWrapper(BytesIO(stdin))))
        if cwd is not None:
            os.chdir(cwd)
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        code: object = 0
        with _stream_to(said[0], "stdout"), _stream_to(said[1], "stderr"):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
        assert code is None or isinstance(code, int)
        return Finished(code or 0, *map(_read, said))


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Put back the folder, variables, torch's threads, and the handlers of signals and of logs."""
    folder = Path.cwd()
    torch = sys.modules.get("torch")
    num_threads = torch.get_num_threads() if torch else None
    signals = {number: signal.getsignal(number) for number in _SIGNALS}
    named = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]
    kept = [(logger, logger.level, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.handlers = list(logger.handlers)
    logging.root.handlers = []  # with pytest's there, `logging.basicConfig` would do nothing
    try:
        with mock.patch.dict(os.environ):
            yield
    finally:
        for logger, level, handlers in kept:
            logger.handlers = handlers
            logger.setLevel(level)
        for number, handler in signals.items():
            signal.signal(number, handler)
        if torch is not None:
            torch.set_num_threads(num_threads)
        os.chdir(folder)


@contextmanager
def _stream_to(file: IO[bytes], name: str) -> Iterator[None]:
    """Write to `file` what goes to `sys.NAME`, and to its file descriptor."""
    stream = getattr(sys, name)
    number = {"stdout": 1, "stderr": 2}[name]
    stream.flush()
    kept = os.dup(number)
    # Handlers of logs may keep it: it is not closed, and writes where its descriptor leads.
    ours = os.fdopen(number, "w", encoding="utf-8", closefd=False)
    os.dup2(file.fileno(), number)
    try:
        with mock.patch.object(sys, name, ours):
            yield
    finally:
        ours.flush()
        os.dup2(kept, number)
        os.close(kept)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8")

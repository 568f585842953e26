"""Folders that hold a run: what decides the results in one, and one process that works on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from groundserve.errors import InvalidRequestError
from groundserve.storage import LOCK_NAME, PARTIAL_SUFFIX, Storage, open_storage
from groundserve.strict_json import parse_object

RUN_NAME = "run.json"
"""What makes a folder one of a run."""
Run: TypeAlias = dict[str, Any]
"""What the file holds."""


def find_run(storage: Storage, key: str) -> Run | None:
    """Return what run.json holds; None where there is nothing, or a run that is just beginning.

    Args:
        storage: The folder.
        key: What run.json has an object under: the settings that decide the results.

    Raises:
        InvalidRequestError: There is something else.
    """
    # Listed before run.json is read: that of a run which begins meanwhile is nothing else.
    names = [
        name for name in storage.names() if name != LOCK_NAME and not name.endswith(PARTIAL_SUFFIX)
    ]
    try:
        run = parse_object(storage.read(RUN_NAME), RUN_NAME)
        if isinstance(run.get(key), dict):
            return run
    except FileNotFoundError:
        if not names:
            return None
        raise InvalidRequestError(
            f"{storage.place} has no run of groundserve and is not empty ({names[0]} is in it); "
            "name another folder"
        ) from None
    except InvalidRequestError:
        pass
    raise InvalidRequestError(
        f"{storage.place}/{RUN_NAME} is not of a run of groundserve; name another folder"
    )


@contextmanager
def held_run(
    place: str, key: str, *, check: Callable[[Run], None]
) -> Iterator[tuple[Storage, Run | None]]:
    """Make a folder where it is missing, and keep other processes away from it, and its run.

    Args:
        place: A path, or an fsspec URL.
        key: As `find_run` takes it.
        check: Refuses a run that is not to be gone on with.

    Raises:
        InvalidRequestError: See `find_run`; or the folder cannot be made or written to.
        UnavailableError: Another process works on it.
    """
    storage = open_storage(place)
    storage.make()

    def found() -> Run | None:
        run = find_run(storage, key)
        if run is not None:
            check(run)
        return run

    found()  # before the lock, so that nothing is left in another's folder
    with storage.locked():
        yield storage, found()


def require_same(place: str, before: Mapping[str, object], now: Mapping[str, object]) -> None:
    """Refuse to go on with a run of other settings, which go by the names that users know."""
    differences = [
        f"{name}: {_said(before.get(name))} before, {_said(now.get(name))} now"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise InvalidRequestError(
            f"{place} has another run, and answers of two must not be mixed: "
            f"{'; '.join(differences)}. Undo that, or name another folder"
        )


def _said(value: object) -> str:
    return "none" if value in ("", None) else str(value)

"""Work on things side by side, with the same outcome as one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def run_side_by_side(
    work: Callable[[T], None], things: Sequence[T], *, num_threads: int, cost: Callable[[T], int]
) -> None:
    """Call `work` with each, those that cost most first, so that threads end at about one time.

    What it raises is raised here: of several errors that of the first thing. After one, what has
    not begun does not begin. MemoryError where a thread cannot be started.
    """
    with ThreadPoolExecutor(max_workers=num_threads) as threads:
        order = sorted(range(len(things)), key=lambda i: -cost(things[i]))
        try:
            calls = {i: _submit(threads, work, things[i]) for i in order}
            # In the things' order: an error of a later one waits until those before are done.
            for i in range(len(things)):
                calls[i].result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def run_behind(work: Callable[[T], None], things: Iterable[T]) -> None:
    """Call `work` with one after another, in a thread, while the next one is made in this.

    Two things exist at a time. What `work` raises is raised here; then nothing more is made.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        pending: Future[None] | None = None
        for thing in things:
            if pending is not None:
                pending.result()
            pending = _submit(thread, work, thing)
        if pending is not None:
            pending.result()


def _submit(threads: Executor, work: Callable[[T], None], thing: T) -> Future[None]:
    try:
        return threads.submit(work, thing)
    # Python's word for a system without room for its stack, or for one more thread.
    except RuntimeError:
        raise MemoryError("a thread cannot be started") from None

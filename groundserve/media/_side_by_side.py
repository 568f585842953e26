"""Work on things side by side, with the same outcome as one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def run_side_by_side(
    work: Callable[[T], None], things: Sequence[T], *, num_threads: int, cost: Callable[[T], int]
) -> None:
    """Call `work` with each, those that cost most first, so that threads end at about one time.

    Args:
        work: Called from several threads at once. What it raises is raised here: of several errors
            that of the first thing. After one, what has not begun does not begin.
        things: In their order.
        num_threads: Calls at once.
        cost: Roughly, in any unit.

    Raises:
        MemoryError: A thread cannot be started.
    """
    with ThreadPoolExecutor(max_workers=num_threads) as threads:
        order = sorted(range(len(things)), key=lambda i: -cost(things[i]))
        try:
            try:
                calls = {i: threads.submit(work, things[i]) for i in order}
            # Python's word for a system without room for its stack, or for one more thread.
            except RuntimeError:
                raise MemoryError("a thread cannot be started") from None
            # In the things' order: an error of a later one waits until those before are done.
            for i in range(len(things)):
                calls[i].result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise

"""Work done in threads ahead of whoever needs the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Argument], Result],
    arguments: Iterable[Argument],
    *,
    executor: Executor,
    depth: int,
) -> Generator[Result, None, None]:
    """Yield `function(argument)` in order, with at most `depth` calls submitted and not yielded.

    An exception of a call is raised in its turn. Closing the generator cancels the calls that have
    not begun.

    Args:
        function: Called in the executor's threads.
        arguments: Taken one by one as calls are submitted, so they may be endless.
        executor: Is not shut down.
        depth: >= 1.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for argument in arguments:
            pending.append(executor.submit(function, argument))
            # The oldest is waited for even where later ones are done: order counts, and so does
            # memory.
            if len(pending) == depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Also when the generator is closed half-way. Calls that run already cannot be cancelled;
        # they end by themselves.
        for future in pending:
            future.cancel()

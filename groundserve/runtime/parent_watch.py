"""A process of Triton's ends when the server that started it has ended."""

from __future__ import annotations

import os
import threading
import time

_LOOK_SECONDS = 1.0


def end_with_parent() -> None:
    """End this process within about a second of its parent's end, whatever it is doing.

    Triton's own watch does not see to that amid a request (2.51: a process that asks the server
    whether its request was cancelled waits for ever). The kernel's signal at a parent's death
    (PR_SET_PDEATHSIG) would come too early: it is tied to the thread that started the process,
    which Triton ends after loading.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent-watch", daemon=True).start()


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)

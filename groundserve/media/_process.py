"""A worker process seen from the process that started it: start, call, kill, start again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    MediaError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.limits import MIB, Limits
from groundserve.media._wire import Channel, Message, NotReceivedError, WireError, WorkerConfig
from groundserve.runtime.deadline import Deadline
from groundserve.triton_messages import DECODER_DIED

# A worker answers with these two only: what else goes wrong with a video it words as MediaError,
# and what goes wrong with itself ends it.
_ERRORS: dict[str, type[GroundserveError]] = {
    error.__name__: error for error in (InvalidRequestError, MediaError)
}


class WorkerProcess:
    """A place for one worker: started at the first call, replaced after it died or was killed.

    `call` is for one thread at a time; `close` may come from any.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        # Guards the three fields below and is held for moments. `_call_lock` is held through a
        # whole call, so `close` must be able to kill the worker without it.
        self._lock = threading.Lock()
        self._call_lock = threading.Lock()
        self._is_closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self.work_done: Counter[str] = Counter()
        """What workers in this place counted when they decoded; see `MediaWorkers.work_done`."""

    @property
    def limits(self) -> Limits:
        """Ceilings on what the worker reads."""
        return self._config.limits

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None while there is none."""
        process = self._process
        return process.pid if process else None

    def call(
        self,
        job: str,
        *,
        deadline: Deadline,
        fd: int | None = None,
        arrays: dict[str, NDArray[Any]] | None = None,
        check: Callable[[Message], None] | None = None,
        **fields: object,
    ) -> Message:
        """Have the worker do a job, whose arguments are arrays and what JSON can hold.

        At the deadline the worker is killed. A descriptor that goes along stays the caller's;
        `check` raises WireError for an answer that no honest worker gives.

        Raises:
            MediaError, InvalidRequestError: The worker's answer.
            DeadlineExceededError: No answer in time; the worker was killed.
            RequestCancelledError: Nobody waits for the answer any more; the worker was killed.
            UnavailableError: The worker died or cannot be started, or this place is closed.
        """
        deadline.check()
        # The worker does not watch the time; it turns `seconds` into a limit on its processor time.
        fields |= {"job": job, "seconds": deadline.remaining_seconds()}
        message = Message(fields=fields, arrays=arrays or {})
        with self._call_lock:
            try:
                answer = self._exchange(message, fd, deadline)
                error = _error_in(answer)
                if error is None and check is not None:
                    check(answer)
            except RequestCancelledError:
                # FFmpeg cannot be interrupted amid a call, so the process is given up with its job.
                self._end()
                raise
            except DeadlineExceededError:
                self._end()
                raise DeadlineExceededError(
                    f"the video was not read within {deadline.total_seconds:.6g} s; "
                    "allow more time or sample fewer frames"
                ) from None
            except WireError:
                self._end()
                raise UnavailableError(f"{DECODER_DIED}; the next request gets a new one") from None
        if error is not None:
            raise error
        return answer

    def _exchange(self, message: Message, fd: int | None, deadline: Deadline) -> Message:
        """Send and receive, with one fresh worker more where the first died before the job."""
        try:
            return self._exchange_once(message, fd, deadline)
        # Only a job that was not read is sent again: one that was begun may be what killed the
        # worker, and would kill the next.
        except NotReceivedError:
            self._end()
            return self._exchange_once(message, fd, deadline)

    def _exchange_once(self, message: Message, fd: int | None, deadline: Deadline) -> Message:
        channel = self._connect()
        channel.send(message, fd, deadline=deadline)
        # No honest answer is larger than all the worker could hold.
        answer = channel.receive(max_bytes=self._config.address_space_bytes, deadline=deadline)
        self.work_done["bytes_moved"] += message.num_bytes + answer.num_bytes
        return answer

    def close(self) -> None:
        """End the worker for good, also amid a job."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()
        # A call that is under way hears that its worker is gone. Only then is the socket closed:
        # its number may be another file's right after.
        with self._call_lock:
            self._end()

    def _end(self) -> None:
        """End the worker; the next call starts another."""
        with self._lock:
            self._kill()

    def _connect(self) -> Channel:
        with self._lock:
            if self._is_closed:
                raise UnavailableError("the decoder processes are closed")
            # Killed between two jobs, for instance when memory ran out: noticed before anything is
            # sent.
            if self._process is not None and self._process.poll() is not None:
                self._kill()
            if self._channel is None:
                try:
                    self._process, self._channel = _start(self._config)
                except OSError as error:
                    raise UnavailableError(
                        "a decoder process cannot be started: "
                        f"{os.strerror(error.errno or 0)}; try again later"
                    ) from error
            return self._channel

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._channel is not None:
            self._channel.close()
        self._process = self._channel = None


def _error_in(answer: Message) -> GroundserveError | None:
    if "error" not in answer.fields:
        return None
    name, text = answer.fields["error"], answer.fields.get("message")
    if not isinstance(name, str) or name not in _ERRORS or not isinstance(text, str):
        raise WireError("an error of another kind")
    return _ERRORS[name](text)


def _start(config: WorkerConfig) -> tuple[subprocess.Popen[bytes], Channel]:
    # Closed here once the child has it: while a copy of `theirs` is open, the worker's death gives
    # no end of file on `ours`.
    ours, theirs = socket.socketpair()
    # -P: modules come from PYTHONPATH below, never from the folder it is started in.
    command = [sys.executable, "-P", "-m", "groundserve.media._worker"]
    with theirs:
        try:
            process = subprocess.Popen(
                [*command, str(theirs.fileno()), config.to_json()],
                pass_fds=[theirs.fileno()],
                # Ctrl-C in a terminal is for the process that started it, which ends its workers
                # itself.
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
            )
        except BaseException:
            ours.close()
            raise
    return process, Channel(ours)


def _environment() -> dict[str, str]:
    """The same modules as here, nothing secret, no threads that would only take address space."""
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path),
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        # Pictures of one segment's decoder become the next one's. Mapped anew each time, the kernel
        # clears them anew: 4% of decoding 720p with 12 frames a group, 9% of 1080p. Larger ones
        # would leave gaps in glibc's heaps of 64 MiB, which count as address space.
        "MALLOC_MMAP_THRESHOLD_": str(8 * MIB),
        "MALLOC_TRIM_THRESHOLD_": str(64 * MIB),
    }

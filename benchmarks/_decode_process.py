"""Both ends of a process that decodes with one library alone: no import of another slows it.

    python -m benchmarks._decode_process NAME

answers jobs, a JSON object a line from stdin to stdout. An object's fields are those of `Job`; the
answer has "wall_seconds", "cpu_seconds" (workers included), "peak_rss_mib" (of all of them, since
they started) and "shape", or "error".
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import Any, Self

from benchmarks._decoders import LIBRARIES, MAX_JOB_SECONDS, Decode, Job
from benchmarks._usage import measured


class DecoderProcess:
    """A process that decodes with one library, until the block ends."""

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._decode_process", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What FFmpeg says of a video; what matters of it comes as an error.
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, job: Job) -> dict[str, Any]:
        """Decode and wait for the answer; a process that ended is an error like any other."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(job.line())
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": f"its process ended with {self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        # Its end of input; a job that is under way ends with the process.
        self._process.kill() if exc_type else self._process.communicate()
        self._process.wait()


def _run(decode: Decode, job: Job) -> dict[str, Any]:
    # A decoder that waits for ever ends here, and its process with it.
    signal.alarm(MAX_JOB_SECONDS)
    with measured() as meter:
        frames = decode(job)
    signal.alarm(0)
    return {**asdict(meter.usage), "shape": list(frames.shape)}


def main(name: str) -> None:
    """Answer jobs until stdin ends."""
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    decode: Decode | None = None
    for line in sys.stdin:
        try:
            decode = decode or LIBRARIES[name].load()
            answer = _run(decode, Job(**json.loads(line)))
        # Whatever a library raises of a video is its result.
        except Exception as error:  # noqa: BLE001
            answer = {"error": f"{type(error).__name__}: {error}".partition("\n")[0][:300]}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

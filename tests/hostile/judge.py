"""What any answer must be: there, typed, and silent about the inside of the server.

A test can only tell a hang, not how soon it is there.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from tests.triton.protocol import Arrays, Protocol, RejectedError

HANG_SECONDS = 60.0

_LEAKS = re.compile(
    # Addresses; Python; folders of this machine; regions of shared memory.
    r"0x[0-9a-f]{4}|Traceback|File \"|line \d+|Error\b|Exception|errno"
    r"|(?<![\w.:/])/(tmp|proc|dev|etc|home|root|usr|opt|var|work|lib)\b|groundserve_\d"
    # Words of FFmpeg, PyAV, Pillow, numpy, ONNX Runtime, tokenizers, the Python backend.
    r"|ffmpeg|libav|avcodec|pyav|\bav\.|moov atom|Invalid data found|memory file|pillow|\bPIL\b"
    r"|numpy|ndarray|broadcast|onnx|ORT_|tokenizers|pb_utils|pb_stub|c_python|\bpickle",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Judge:
    """Asks, and checks what holds for every answer."""

    protocol: Protocol
    good: Arrays
    """A request that is answered."""

    def ask(self, model: str, inputs: Arrays) -> Arrays | RejectedError:
        """Return outputs or the refusal, after checking both."""
        started = time.perf_counter()
        try:
            answer: Arrays | RejectedError = self.protocol.infer(model, inputs)
        except RejectedError as rejection:
            answer = rejection
            check_silent(rejection.message)
        assert time.perf_counter() - started < HANG_SECONDS
        return answer

    def ask_changed(self, **changes: object) -> Arrays | RejectedError:
        """Ask with other inputs than the good request's; None leaves one out."""
        changed = {**self.good, **changes}
        return self.ask("videoitg", {k: v for k, v in changed.items() if v is not None})

    def refusal(self, **changes: object) -> str:
        """Return the text of a refusal that the caller can act on."""
        answer = self.ask_changed(**changes)
        assert isinstance(answer, RejectedError), "an answer, not a refusal"
        assert answer.code in ("INVALID_ARG", "UNSUPPORTED"), answer
        return answer.message


def check_silent(message: str) -> None:
    """Fail where a message says what only the server's log may say."""
    assert not _LEAKS.search(message), message

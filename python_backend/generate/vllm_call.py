"""One request to vLLM's HTTP API, with its prompt as embeddings.

Shape letters: S positions, H decoder width.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import math
import socket
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import GroundserveError, UnavailableError
from python_backend.generate.vllm_process import MODEL_NAME, UnixConnection

_SILENCE_SECONDS = 600.0
"""Longest wait for vLLM's next word; a deadline ends it before."""
_EVENT = b"data: "


class Call:
    """One request; a thread reads what comes, and any other may end it."""

    def __init__(
        self, socket_path: str, asked: Mapping[str, Any], rows: NDArray[np.float32]
    ) -> None:
        """Send nothing yet.

        Args:
            socket_path: vLLM's.
            asked: Of the body, what is no prompt.
            rows: float32 (S, H), the prompt.
        """
        self._body = _body(asked, rows)
        self._connection = UnixConnection(socket_path, timeout=_SILENCE_SECONDS)
        self._socket: socket.socket | None = None
        self._is_aborted = False

    def whole(self) -> dict[str, Any]:
        """Return the one choice of an answer that is not streamed."""
        with self._talk() as response:
            choice: dict[str, Any] = json.loads(response.read())["choices"][0]
            return choice

    def stream(self) -> Iterator[int]:
        """Yield the tokens as they come.

        Raises:
            UnavailableError: They end before their end, or do not begin.
            GroundserveError: vLLM refuses the request, or its logits are not finite.
        """
        with self._talk() as response:
            for line in response:
                if not line.startswith(_EVENT):
                    continue
                said = line.removeprefix(_EVENT).strip()
                if said == b"[DONE]":
                    return
                event = json.loads(said)
                if "error" in event:
                    raise UnavailableError(f"vLLM ended an answer: {event['error']['message']}")
                for choice in event["choices"]:
                    if choice["token_ids"]:
                        _check_finite(choice["logprobs"]["token_logprobs"])
                        yield from choice["token_ids"]
                    if choice["finish_reason"] not in (None, "stop", "length"):
                        raise UnavailableError(f"vLLM ended an answer: {choice['finish_reason']}")
            raise UnavailableError("vLLM ended in the middle of an answer; try again")

    def abort(self) -> None:
        """End the request: who reads finds the end, and vLLM nobody who waits."""
        self._is_aborted = True
        if self._socket is not None:
            with suppress(OSError):  # it has ended
                self._socket.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _talk(self) -> Iterator[http.client.HTTPResponse]:
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            if self._is_aborted:  # before it could be told
                raise ConnectionAbortedError
            headers = {"Content-Type": "application/json"}
            self._connection.request("POST", "/v1/completions", self._body, headers)
            self._body = b""  # large, and sent
            with self._connection.getresponse() as response:
                if response.status != http.HTTPStatus.OK:
                    _refuse(response.status, response.read())
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"vLLM does not answer ({error!r}); try again") from error
        finally:
            self._connection.close()


def _refuse(status: int, body: bytes) -> None:
    try:
        reason = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        reason = body[:200].decode("utf-8", errors="replace")
    kind = GroundserveError if status < http.HTTPStatus.INTERNAL_SERVER_ERROR else UnavailableError
    raise kind(f"vLLM refuses a prompt with status {status}: {reason}")


def _check_finite(logprobs: Sequence[float | None]) -> None:
    """Refuse a token of logits that are not finite: it would look like an answer."""
    if any(one is None or not math.isfinite(one) for one in logprobs):
        raise GroundserveError("the decoder returned logits that are not finite")


def _body(asked: Mapping[str, Any], rows: NDArray[np.float32]) -> bytes:
    """Return the JSON of a request with a prompt of (S, H) embeddings."""
    said = {
        **asked,
        "model": MODEL_NAME,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,  # the engine has no tokenizer
        "prompt_embeds": "",
    }
    before, _, after = json.dumps(said).encode().rpartition(b'""')
    return b"".join([before, b'"', base64.b64encode(_torch_file(rows)), b'"', after])


def _torch_file(rows: NDArray[np.float32]) -> bytes:
    """Return what `torch.save` makes of a tensor; serving on a CPU does without PyTorch."""
    size, (num_rows, width) = rows.size, rows.shape
    # torch._utils._rebuild_tensor_v2((storage), 0, shape, strides, False, OrderedDict())
    pickled = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + struct.pack("<ci", b"J", size)
        + b"tQK\x00"
        + struct.pack("<ci", b"J", num_rows)
        + struct.pack("<ci", b"J", width)
        + b"\x86"
        + struct.pack("<ci", b"J", width)
        + b"K\x01\x86\x89ccollections\nOrderedDict\n)RtR."
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("prompt/data.pkl", pickled)
        archive.writestr("prompt/byteorder", b"little")
        archive.writestr("prompt/data/0", np.ascontiguousarray(rows, "<f4").tobytes())
        archive.writestr("prompt/version", b"3\n")
    return made.getvalue()

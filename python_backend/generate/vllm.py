"""The generation stage with vLLM, by its HTTP API: prompts go as embeddings, tokens come streamed.

Shape letters: S positions, H decoder width, V vocabulary.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import StopReason
from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    UnsupportedError,
)
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import Array, concatenate, is_finite
from python_backend.generate.base import Front
from python_backend.generate.questions import Generated, Generator, OnToken, Turns, Work
from python_backend.generate.vllm_call import Call
from python_backend.generate.vllm_process import SOCKET_VARIABLE, VllmEngine

MAX_TOGETHER = 4
"""Questions of one request that vLLM has at one time; others' come in between."""
_TEMPERATURES = (0.01, 2.0)
"""Between which vLLM draws: `vllm/sampling_params.py` of 0.32."""


def open_vllm_generator(engine_dir: Path, front: Front) -> VllmGenerator:
    """Return what generates with the engine that a server started, or with one of its own."""
    if found := os.environ.get(SOCKET_VARIABLE):
        return VllmGenerator(front=front, decoder=VllmDecoder(found))
    engine = VllmEngine.start(engine_dir)
    return VllmGenerator(front=front, decoder=VllmDecoder(str(engine.socket)), engine=engine)


@dataclass(frozen=True, kw_only=True, eq=False)
class VllmGenerator(Generator):
    """Has vLLM generate; requests need not take turns, and the video's prefix is in its cache.

    Draws are vLLM's own: with a seed they repeat here, and are other ones than elsewhere.
    """

    decoder: VllmDecoder
    engine: VllmEngine | None = None
    """What was started for this generator, and ends with it."""

    def close(self) -> None:
        """End the engine that was started for this."""
        if self.engine is not None:
            self.engine.close()

    def check(self, options: AnswerOptions) -> None:
        """Refuse a temperature at which vLLM does not draw."""
        _check_temperature(options.temperature)

    def run(self, work: Work) -> Turns[None]:
        """Have vLLM answer, without a stop for others.

        Raises:
            UnavailableError: vLLM does not answer, or ended meanwhile.
            GroundserveError: Embeddings are not finite, or vLLM refuses them.
        """
        yield from ()
        suffixes = [prompt.suffix_ids for prompt in work.prompts]
        work.prefix_positions[0] = len(work.embeddings)
        work.meter.add("prefix_tokens", len(work.embeddings))
        answers = self.decoder.complete(
            work.embeddings,
            [self.front.embed_text(suffix) for suffix in suffixes],
            work.options,
            seed=work.seed,
            end_ids=work.end_ids,
            deadline=work.deadline,
            on_token=work.on_token,
        )
        work.meter.add("prompt_tokens", sum(map(len, suffixes)))
        work.meter.add("generated_tokens", sum(len(answer.token_ids) for answer in answers))
        work.answers.update(enumerate(answers))


@dataclass(kw_only=True, eq=False)
class _Asked:
    """The questions of one request, some of them at vLLM, and the tokens that came."""

    calls: Iterator[Call]
    """Each is made when it is its turn."""
    deadline: Deadline
    end_ids: frozenset[int]
    on_token: OnToken | None
    token_ids: dict[int, list[int]] = field(default_factory=dict)
    stop_reasons: dict[int, StopReason] = field(default_factory=dict)
    _speaking: int = 0
    _num_told: int = 0
    _events: SimpleQueue[tuple[int, int | StopReason | Exception]] = field(
        default_factory=SimpleQueue
    )

    def run(self) -> None:
        """Ask all, and wait until all are answered; however that ends, vLLM is left by all."""
        waiting = enumerate(self.calls)
        calls: dict[int, Call] = {}
        try:
            while True:
                # The first alone until its prompt is computed: what all share is then in the cache.
                most = MAX_TOGETHER if self.token_ids else 1
                for number, call in islice(waiting, most - len(calls)):
                    calls[number] = call
                    self._listen(number, call)
                if not calls:
                    return
                with suppress(Empty):
                    number, event = self._events.get(timeout=self.deadline.wait_seconds())
                    if isinstance(event, Exception):
                        raise event
                    if isinstance(event, str):
                        self.stop_reasons[number] = event
                        del calls[number]
                    else:
                        self.token_ids.setdefault(number, []).append(event)
                    self._tell()
        finally:
            for call in calls.values():
                call.abort()

    def _tell(self) -> None:
        """Tell what is new, one question after another: those behind an open one wait for it."""
        if self.on_token is None:
            return
        while True:
            token_ids = self.token_ids.get(self._speaking, [])
            for token_id in token_ids[self._num_told :]:
                self.on_token(self._speaking, token_id)
            self._num_told = len(token_ids)
            if self._speaking not in self.stop_reasons:
                return
            self._speaking, self._num_told = self._speaking + 1, 0

    def _listen(self, number: int, call: Call) -> None:
        def run() -> None:
            try:
                token_id = None
                for token_id in call.stream():
                    self._events.put((number, token_id))
                self._events.put((number, "eos" if token_id in self.end_ids else "length"))
            except Exception as error:  # noqa: BLE001 - raised by who waits
                self._events.put((number, error))

        threading.Thread(target=run, name="vllm", daemon=True).start()


class VllmDecoder:
    """vLLM's server behind a socket.

    Also a `Decoder`, whose "logits" are log-probabilities: for the gate and for tests, since each
    pass sends the whole sequence anew.
    """

    def __init__(self, socket_path: str) -> None:
        self._socket = socket_path

    def regime(self, num_positions: int) -> int:
        """Return 0: the engine has one."""
        return 0

    def begin(self, max_positions: int) -> VllmPast:
        """Return a past without a position."""
        return VllmPast()

    def extend(
        self,
        embeddings: Array,
        past: VllmPast,
        *,
        regime: int,
        position_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Compute further positions, of whose last log-probabilities are returned."""
        before = [past.rows] if past.num_positions else []
        past.rows = np.concatenate([*before, _checked(embeddings)])
        asked = {"max_tokens": 1, "temperature": 0.0, "logprobs": -1}
        choice = Call(self._socket, asked, past.rows).whole()
        (found,) = choice["logprobs"]["top_logprobs"]
        # {"token_id:17": -0.5}
        by_id = {int(name.rpartition(":")[2]): value for name, value in found.items()}
        return np.array([by_id[token_id] for token_id in range(len(by_id))], np.float32)

    def complete(
        self,
        shared: Array,
        suffixes: Sequence[Array],
        options: AnswerOptions,
        *,
        seed: int | None,
        end_ids: frozenset[int],
        deadline: Deadline,
        on_token: OnToken | None = None,
    ) -> list[Generated]:
        """Answer prompts, some at one time, each (S, H) embeddings behind those that all share.

        Raises:
            DeadlineExceededError: Time ran out before the first token.
            RequestCancelledError: Nobody waits for the answers any more.
            UnavailableError: vLLM does not answer, or ended meanwhile.
            GroundserveError: Embeddings or logits are not finite, or vLLM refuses a prompt.
        """
        asked = {
            "max_tokens": options.max_new_tokens,
            "temperature": float(options.temperature),
            "top_p": 1.0 if options.top_p is None else options.top_p,
            "seed": seed,
            "stop_token_ids": sorted(end_ids),
            "ignore_eos": True,  # what a config may say besides
            "stream": True,
            "logprobs": 0,  # which tell whether logits are finite
        }
        calls = (
            Call(self._socket, asked, _checked(concatenate([shared, suffix])))
            for suffix in suffixes
        )
        work = _Asked(calls=calls, deadline=deadline, end_ids=end_ids, on_token=on_token)
        try:
            work.run()
        except DeadlineExceededError:
            if not work.token_ids:
                raise
        return [
            Generated(
                token_ids=np.array(work.token_ids.get(number, ()), np.int32),
                stop_reason=work.stop_reasons.get(number, "deadline"),
            )
            for number in range(len(suffixes))
        ]


class VllmPast:
    """The positions so far, as their embeddings: vLLM has their keys and values in its cache."""

    def __init__(self) -> None:
        self.rows: NDArray[np.float32] = np.empty((0, 0), np.float32)

    @property
    def num_positions(self) -> int:
        """How many there are."""
        return len(self.rows)

    def crop(self, num_positions: int) -> None:
        """Forget all but the first."""
        self.rows = self.rows[:num_positions]


def _check_temperature(temperature: float) -> None:
    """Refuse what vLLM refuses, and what it draws at another temperature."""
    least, most = _TEMPERATURES
    if temperature != 0 and not least <= temperature <= most:
        raise UnsupportedError(
            f"engines of profile vllm draw at a temperature from {least} to {most}, got "
            f"{temperature}; 0 takes the likeliest token, or ask engines of profile cpu or torch"
        )


def _checked(rows: Array) -> NDArray[np.float32]:
    """Return (S, H) embeddings in host memory: others than finite ones vLLM answers silently."""
    if not is_finite(rows):
        raise GroundserveError("the embeddings of a prompt are not finite")
    if not isinstance(rows, np.ndarray):  # numpy has no bf16
        rows = rows.float().cpu().numpy()
    return rows.astype(np.float32, copy=False)

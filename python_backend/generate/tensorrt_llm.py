"""Questions as Triton's `tensorrtllm` backend takes them, and answers from what it streams.

The backend picks the tokens itself. The rows of the video's block are its prompt table: an id k of
the prompt, k >= V, is row k - V of the request's own table. Keys and values are kept by blocks of
ids; as the ids of all videos' rows are the same, each has the block's hash beside it, so that the
next question on a video finds what the first one computed, and no other video does.

A part of an answer has the tokens that came since the one before. The backend stops at the end
token and leaves it out (NVIDIA/TensorRT-LLM#2190).

Source: NVIDIA/TensorRT-LLM 0c8de69, `triton_backend/inflight_batcher_llm/src/
model_instance_state.cc`, and 1929081, `utils.cc` beside it.

Shape letters: S tokens of a prompt with the video's rows, N such rows, H decoder width, V
vocabulary, n tokens of a part, Q questions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import StopReason
from groundserve.deadline import Deadline
from groundserve.errors import DeadlineExceededError, EngineMismatchError, GroundserveError
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.options import AnswerOptions
from python_backend.arrays import Array
from python_backend.generate.base import check_token_ids
from python_backend.generate.questions import Generated, Generation, Turns
from python_backend.generate.sampling import choose_seed
from python_backend.meter import Meter

TABLE_TYPE = np.float16
"""Of the prompt table. numpy, in which it travels, has no bfloat16."""

_CONFIG_NAME = "config.json"


class VideoFront(Protocol):
    """What makes a video's block; see `python_backend.generate.base.Front`."""

    def embed_video(
        self, features: Array, inputs: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """See `Front.embed_video`; in host memory."""
        ...


class Executor(Protocol):
    """Whoever calls the backend, one question at a time."""

    def stream(
        self, inputs: Mapping[str, NDArray[Any]], *, deadline: Deadline
    ) -> Iterator[Mapping[str, NDArray[np.int32]]]:
        """Ask one question.

        Args:
            inputs: Of `request_tensors`.
            deadline: Looked at all the time; the backend stops when it is over.

        Yields:
            Outputs of each part as it comes.

        Raises:
            DeadlineExceededError: Time ran out, and the backend was told to stop.
            RequestCancelledError: Nobody waits for the answer any more; likewise.
            GroundserveError: The backend failed.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ExecutorGenerator:
    """Answers questions on one video by way of the backend, one after another.

    Those of other requests grow beside them, in the backend's passes: what a token's logits are may
    depend on these in their last bits.
    """

    front: VideoFront
    """Before the decoder."""
    executor: Executor
    """Calls the backend."""
    vocab_size: int
    """V."""
    end_id: int
    """The token that ends an answer."""

    def answer(
        self,
        features: Array,
        inputs: Sequence[NDArray[np.float32]],
        prompts: Sequence[Prompt],
        options: AnswerOptions,
        *,
        end_ids: frozenset[int],
        deadline: Deadline,
        meter: Meter,
        others_wait: Callable[[], bool] = lambda: False,
    ) -> Turns[Generation]:
        """See `python_backend.generate.answer_questions`.

        What the prompts share is counted as computed once; the backend does so by whole blocks, as
        far as it has them still.
        """
        assert end_ids == {self.end_id}, "the engine knows the tokenizer's end"
        seed = choose_seed(options)
        deadline.check()
        block = self.front.embed_video(features, inputs).astype(TABLE_TYPE)
        prefix_tokens = prompts[0].num_prefix - 1 + len(block)
        answers: list[Generated] = []
        for prompt in prompts:
            if answers and others_wait():
                yield
            request = request_tensors(
                prompt,
                block,
                options,
                vocab_size=self.vocab_size,
                end_id=self.end_id,
                seed=seed,
            )
            answer = StreamedAnswer(max_new_tokens=options.max_new_tokens, end_id=self.end_id)
            try:
                parts = self.executor.stream(request, deadline=deadline)
                for number, outputs in enumerate(parts):
                    if number == 0:
                        if prompt is prompts[0]:
                            meter.add("prefix_tokens", prefix_tokens)
                        meter.add("prompt_tokens", len(prompt.suffix_ids))
                    answer.add(outputs)
                answers.append(answer.finish())
            except DeadlineExceededError:
                if not answers and not answer.token_ids:
                    raise
                answers.append(answer.cut_off())
            finally:
                meter.add("generated_tokens", len(answer.token_ids))
        return Generation(
            answers=tuple(answers),
            prefix_tokens=prefix_tokens,
            prompt_tokens=sum(len(prompt.suffix_ids) for prompt in prompts),
            seed=seed,
        )


class StreamedAnswer:
    """One answer, part by part."""

    def __init__(self, *, max_new_tokens: int, end_id: int) -> None:
        """Begin an answer.

        Args:
            max_new_tokens: Of the request.
            end_id: Of the request.
        """
        self.token_ids: list[int] = []
        self._max_new_tokens = max_new_tokens
        self._end_id = end_id

    def add(self, outputs: Mapping[str, NDArray[np.int32]]) -> None:
        """Take one part.

        Args:
            outputs: `output_ids` (1, 1, n) without the prompt, `sequence_length` (1, 1).

        Raises:
            GroundserveError: It has another shape than one of one sequence, or the answer becomes
                longer than asked for.
        """
        ids, lengths = outputs["output_ids"], outputs["sequence_length"]
        if ids.shape[:2] != (1, 1) or ids.ndim != 3 or lengths.shape != (1, 1):
            raise GroundserveError(
                "tensorrt_llm must answer output_ids (1, 1, n) and sequence_length (1, 1), got "
                f"{ids.shape} and {lengths.shape}"
            )
        if self._end_id in self.token_ids:  # older backends padded with it (#634)
            return
        self.token_ids += ids[0, 0, : max(0, int(lengths[0, 0]))].tolist()
        if self._end_id in self.token_ids:
            del self.token_ids[self.token_ids.index(self._end_id) + 1 :]
        if len(self.token_ids) > self._max_new_tokens:
            raise GroundserveError(
                f"tensorrt_llm must answer at most {self._max_new_tokens} tokens, got "
                f"{len(self.token_ids)}"
            )

    def cut_off(self) -> Generated:
        """Return what there is of an answer whose time ran out."""
        is_whole = self._end_id in self.token_ids or len(self.token_ids) == self._max_new_tokens
        return self.finish() if is_whole else self._as("deadline")

    def finish(self) -> Generated:
        """Return the answer, which the backend has ended."""
        if self._end_id in self.token_ids:
            return self._as("eos")
        if len(self.token_ids) == self._max_new_tokens:
            return self._as("length")
        self.token_ids.append(self._end_id)
        return self._as("eos")

    def _as(self, stop_reason: StopReason) -> Generated:
        return Generated(token_ids=np.array(self.token_ids, np.int32), stop_reason=stop_reason)


def rows_key(block: NDArray[np.float16]) -> int:
    """Return what tells a video's rows (N, H) from others', in [1, 2**64): 0 is that of text."""
    digest = hashlib.sha256(np.ascontiguousarray(block).data).digest()
    return int.from_bytes(digest[:8], "little") or 1


def request_tensors(
    prompt: Prompt,
    block: NDArray[np.float16],
    options: AnswerOptions,
    *,
    vocab_size: int,
    end_id: int,
    seed: int | None,
) -> dict[str, NDArray[Any]]:
    """Return the inputs of one question by name, with the batch dimension of 1 in front.

    Args:
        prompt: Of the question.
        block: (N, H), the video's, in the engine's dtype.
        options: `max_new_tokens`, and how tokens are picked. Draws are the backend's: with a seed
            they are the same each time, and others than this package's own.
        vocab_size: V.
        end_id: The token that ends an answer.
        seed: Of `choose_seed`; None where nothing is drawn.

    Raises:
        EngineMismatchError: A token id is none of the model's.
    """
    check_token_ids(prompt.token_ids[prompt.token_ids != VISUAL_TOKEN_ID], vocab_size)
    is_row, token_ids = _expanded(prompt.token_ids, len(block), vocab_size)
    scalars: dict[str, np.generic] = {
        "input_lengths": np.int32(len(token_ids)),
        "request_output_len": np.int32(options.max_new_tokens),
        "end_id": np.int32(end_id),
        "pad_id": np.int32(end_id),
        "prompt_vocab_size": np.int32(len(block)),
        "streaming": np.bool_(True),
    }
    if seed is None:
        scalars["runtime_top_k"] = np.int32(1)
    else:
        # 0: among all tokens.
        scalars["runtime_top_k"] = np.int32(0)
        scalars["runtime_top_p"] = np.float32(1.0 if options.top_p is None else options.top_p)
        scalars["temperature"] = np.float32(options.temperature)
        scalars["seed"] = np.uint64(seed)
    return {
        **{name: np.array([[value]]) for name, value in scalars.items()},
        "input_ids": token_ids.astype(np.int32)[None],
        "prompt_embedding_table": block[None],
        "prompt_table_extra_ids": np.where(is_row, np.uint64(rows_key(block)), np.uint64(0))[None],
    }


def stop_tensors() -> dict[str, NDArray[Any]]:
    """Return the inputs that end the request whose id they are sent with."""
    return {
        "stop": np.array([[True]]),
        # Which the model's config wants of every request.
        "input_lengths": np.zeros((1, 1), np.int32),
        "request_output_len": np.zeros((1, 1), np.int32),
    }


def read_vocab_size(engine_dir: Path) -> int:
    """Return V of an engine.

    Raises:
        EngineMismatchError: Its config.json is unreadable or does not say it.
    """
    try:
        config = json.loads((engine_dir / _CONFIG_NAME).read_text("utf-8"))
        vocab_size = config["pretrained_config"]["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError):
        vocab_size = None
    if not isinstance(vocab_size, int):
        raise EngineMismatchError(
            f"{engine_dir.name}/{_CONFIG_NAME} does not say the vocabulary's size; rebuild the "
            "engine directory"
        )
    return vocab_size


def _expanded(
    token_ids: NDArray[np.int64], num_rows: int, vocab_size: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return (S,) which are rows of the video, and int64 (S,) ids with theirs in its place."""
    (place,) = np.flatnonzero(token_ids == VISUAL_TOKEN_ID)
    rows = vocab_size + np.arange(num_rows)
    expanded = np.concatenate([token_ids[:place], rows, token_ids[place + 1 :]])
    return expanded >= vocab_size, expanded

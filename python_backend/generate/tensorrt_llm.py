"""A question as Triton's `tensorrtllm` backend takes it, and its answer from what it gives.

The backend picks the tokens itself. The rows of the video's block are its prompt table: an id k of
the prompt, k >= V, is row k - V of the request's own table. Keys and values are kept by blocks of
ids; as the ids of all videos' rows are the same, each has the video's hash beside it, so that the
next question on a video finds what the first one computed, and no other video does.

Source: NVIDIA/TensorRT-LLM c8c6df0, `triton_backend/inflight_batcher_llm/src/utils.cc`.

Shape letters: S tokens of a prompt with the video's rows, N such rows, H decoder width, V
vocabulary, n tokens of an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import StopReason
from groundserve.errors import GroundserveError
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.options import AnswerOptions
from python_backend.arrays import Array
from python_backend.generate.questions import Generated


def video_key(features: NDArray[np.float16]) -> int:
    """Return what tells a video's rows from others', in [1, 2**64): 0 is that of text.

    Args:
        features: (U, P, D), of the vision stage.
    """
    digest = hashlib.sha256(features.tobytes()).digest()
    return int.from_bytes(digest[:8], "little") or 1


def request_tensors(
    prompt: Prompt,
    block: Array,
    options: AnswerOptions,
    *,
    video: int,
    vocab_size: int,
    end_id: int,
    seed: int | None,
) -> dict[str, Array]:
    """Return the inputs of one question by name, with the batch dimension of 1 in front.

    Args:
        prompt: Of the question.
        block: (N, H), the video's, in the engine's dtype.
        options: `max_new_tokens`, and how tokens are picked. Draws are the backend's: with a seed
            they are the same each time, and others than this package's own.
        video: Of `video_key`.
        vocab_size: V.
        end_id: The token that ends an answer.
        seed: Of `choose_seed`; None where nothing is drawn.
    """
    is_row, token_ids = _expanded(prompt.token_ids, len(block), vocab_size)
    scalars: dict[str, np.generic] = {
        "input_lengths": np.int32(len(token_ids)),
        "request_output_len": np.int32(options.max_new_tokens),
        "end_id": np.int32(end_id),
        "pad_id": np.int32(end_id),
        "prompt_vocab_size": np.int32(len(block)),
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
        "prompt_table_extra_ids": np.where(is_row, np.uint64(video), np.uint64(0))[None],
    }


def read_answer(
    outputs: Mapping[str, NDArray[np.int32]], options: AnswerOptions, *, end_id: int
) -> Generated:
    """Return the answer of one question.

    Its tokens end with the first end token, whatever length the backend says: older ones were
    reported to pad answers with end tokens and count these (tensorrtllm_backend#634).

    Args:
        outputs: `output_ids` (1, 1, n) without the prompt, `sequence_length` (1, 1).
        options: As of the request.
        end_id: As of the request.

    Raises:
        GroundserveError: The answer has another shape than one of one sequence, is longer than
            asked for, or ends before that without its end token.
    """
    ids, lengths = outputs["output_ids"], outputs["sequence_length"]
    if ids.shape[:2] != (1, 1) or ids.ndim != 3 or lengths.shape != (1, 1):
        raise GroundserveError(
            "tensorrt_llm must answer output_ids (1, 1, n) and sequence_length (1, 1), got "
            f"{ids.shape} and {lengths.shape}"
        )
    token_ids = ids[0, 0, : max(0, int(lengths[0, 0]))]
    ends = np.flatnonzero(token_ids == end_id)
    stop_reason: StopReason = "length"
    if ends.size:
        stop_reason, token_ids = "eos", token_ids[: ends[0] + 1]
    wanted = options.max_new_tokens
    if len(token_ids) > wanted or (stop_reason == "length" and len(token_ids) < wanted):
        raise GroundserveError(
            f"tensorrt_llm must answer {wanted} tokens, or fewer with the end token {end_id} as "
            f"the last, got {len(token_ids)}"
        )
    return Generated(token_ids=token_ids.astype(np.int32), stop_reason=stop_reason)


def _expanded(
    token_ids: NDArray[np.int64], num_rows: int, vocab_size: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return (S,) which are rows of the video, and int64 (S,) ids with theirs in its place."""
    (place,) = np.flatnonzero(token_ids == VISUAL_TOKEN_ID)
    rows = vocab_size + np.arange(num_rows)
    expanded = np.concatenate([token_ids[:place], rows, token_ids[place + 1 :]])
    return expanded >= vocab_size, expanded

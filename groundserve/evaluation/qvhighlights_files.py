"""Ground truth and predictions in the JSONL format of QVHighlights.

Shape letters: M true windows, N predicted windows, C clips of two seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.line_file import read_lines

CLIP_SECONDS = 2
"""Length of the clips that annotators rated."""
_NUM_ANNOTATORS = 3

QueryId = int | str
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundTruth:
    """What three annotators said about one query."""

    video: str
    """`vid`, or the query's own name where the file gives none."""
    windows: NDArray[np.float64]
    """float64 (M, 2), start and end in seconds, M >= 1."""
    saliency: NDArray[np.int64] | None
    """int64 (C, 3) in 0..4, 0 outside the relevant clips; None where the line has no ratings."""
    query: str | None = None
    """What was looked for; None where the line does not say."""
    duration_seconds: float | None = None
    """The video's; None where the line has no ratings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model said about one query."""

    windows: NDArray[np.float64] | None
    """float64 (N, 3), start, end and score, as listed (best first); None where not predicted."""
    clip_scores: NDArray[np.float64] | None
    """float64 (C',), saliency of each clip from the start; None where not predicted."""


def read_ground_truth(path: str | PathLike[str]) -> dict[QueryId, GroundTruth]:
    """Read one query a line.

    Needed: `qid`, `relevant_windows`. Used where present: `vid`, `query`, and together `duration`,
    `relevant_clip_ids`, `saliency_scores`.

    Raises:
        InvalidRequestError: The file cannot be read, a line is malformed or a `qid` repeated.
    """
    return _read(path, _parse_ground_truth)


def read_predictions(path: str | PathLike[str]) -> dict[QueryId, Prediction]:
    """Read one query a line: `qid`, and `pred_relevant_windows`, `pred_saliency_scores` or both."""
    return _read(path, _parse_prediction)


def _parse_ground_truth(value: dict[str, Any]) -> GroundTruth:
    windows = _read_array(value, "relevant_windows", width=2)
    if not len(windows):
        raise ValueError("relevant_windows must hold at least one window")
    if (windows[:, 0] > windows[:, 1]).any():
        raise ValueError("relevant_windows must be [start, end] in seconds, start <= end")
    saliency = duration = None
    if "saliency_scores" in value:
        ratings = _read_array(value, "saliency_scores", width=_NUM_ANNOTATORS)
        clip_ids = _read_array(value, "relevant_clip_ids").astype(np.int64)
        # Rounded down as the benchmark's evaluator does: the rest of a last clip is not rated.
        duration = float(value["duration"])
        num_clips = int(duration / CLIP_SECONDS)
        if len(clip_ids) != len(ratings):
            raise ValueError("relevant_clip_ids and saliency_scores differ in length")
        if len(clip_ids) and not 0 <= clip_ids.min() <= clip_ids.max() < num_clips:
            raise ValueError(f"relevant_clip_ids must be in 0..{num_clips - 1}")
        # The file rates the relevant clips only.
        saliency = np.zeros((num_clips, _NUM_ANNOTATORS), np.int64)
        saliency[clip_ids] = ratings
    video, query = value.get("vid", value["qid"]), value.get("query")
    return GroundTruth(
        video=str(video),
        windows=windows,
        saliency=saliency,
        query=query if isinstance(query, str) else None,
        duration_seconds=duration,
    )


def _parse_prediction(value: dict[str, Any]) -> Prediction:
    windows = clip_scores = None
    if "pred_relevant_windows" in value:
        windows = _read_array(value, "pred_relevant_windows", width=3)
    if "pred_saliency_scores" in value:
        clip_scores = read_clip_scores(value)
    if windows is None and clip_scores is None:
        raise ValueError("neither pred_relevant_windows nor pred_saliency_scores is given")
    return Prediction(windows=windows, clip_scores=clip_scores)


def read_clip_scores(value: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return float64 (C',), C' >= 1: `pred_saliency_scores` of a line.

    Raises:
        KeyError, ValueError: It has none, or they are something else.
    """
    scores = _read_array(value, "pred_saliency_scores")
    if not len(scores):
        raise ValueError("pred_saliency_scores is empty")
    return scores


def _read_array(
    value: Mapping[str, Any], name: str, *, width: int | None = None
) -> NDArray[np.float64]:
    """Return numbers of a line, or rows of as many as `width` says."""
    rows = "numbers" if width is None else f"rows of {width} numbers"
    wrong = ValueError(f"{name} must be a list of {rows}")
    try:
        array = np.array(value[name], np.float64)
    except (TypeError, ValueError):  # NumPy's, of text and of rows that differ in length
        raise wrong from None
    # An empty list has the shape (0,), which does not tell how wide its rows would be.
    if width is not None and not array.size:
        array = array.reshape(0, width)
    if array.shape[1:] != (() if width is None else (width,)) or not array.ndim:
        raise wrong
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers")
    return array


def _read(
    path: str | PathLike[str], parse: Callable[[dict[str, Any]], _Parsed]
) -> dict[QueryId, _Parsed]:
    found: dict[QueryId, _Parsed] = {}
    for where, value in read_lines(path):
        try:
            query_id = value["qid"]
            if query_id in found:
                raise ValueError(f"qid {query_id} is given twice")
            found[query_id] = parse(value)
        except KeyError as error:
            raise InvalidRequestError(f"{where}: {error.args[0]} is missing") from error
        # A qid that cannot be a key, a list where a number belongs.
        except TypeError as error:
            raise InvalidRequestError(f"{where}: not an object of the expected fields") from error
        except (ValueError, OverflowError) as error:
            raise InvalidRequestError(f"{where}: {error}") from error
    if not found:
        raise InvalidRequestError(f"{path} holds no lines")
    return found

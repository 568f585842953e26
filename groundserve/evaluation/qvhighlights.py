"""Moment retrieval and highlight detection, scored as QVHighlights does, and its JSONL files.

Definitions of the benchmark's public evaluator (jayleicn/moment_detr, `standalone_eval`), whose
numbers these equal; there they are percentages rounded to two digits, here shares.

Shape letters: M true windows, N predicted windows, C clips of two seconds, A IoU thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.bootstrap import AsDict, Estimate, bootstrap_mean
from groundserve.evaluation.frames import rank_blocks
from groundserve.evaluation.line_file import read_lines
from groundserve.evaluation.spans import best_iou, span_iou

# Rounded, since 0.5 + 0.05 * 7 is 0.8500000000000001 in binary and an IoU of 0.85 must reach it.
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
# The evaluator's; a longer list is cut, not refused.
MAX_PREDICTED_WINDOWS = 10
SALIENCY_LEVELS = {"fair": 2, "good": 3, "very_good": 4}
"""Lowest rating, of 0 to 4, at which a clip counts as a highlight."""
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
    """
    return _read(path, _parse_ground_truth)


def read_predictions(path: str | PathLike[str]) -> dict[QueryId, Prediction]:
    """Read one query a line: `qid`, and `pred_relevant_windows`, `pred_saliency_scores` or both."""
    return _read(path, _parse_prediction)


@dataclass(frozen=True, kw_only=True)
class MomentReport(AsDict):
    """Figures over all queries of a ground-truth file."""

    seed: int
    figures: Mapping[str, Estimate]
    """`moment_*` where windows are predicted, `highlight_*` where clips are scored."""


def make_moment_report(
    predictions: Mapping[QueryId, Prediction],
    truths: Mapping[QueryId, GroundTruth],
    *,
    seed: int = 0,
) -> MomentReport:
    """Score every query of both and average over them; `seed` is that of the resamples."""
    unpaired = [qid for qid in truths if qid not in predictions]
    unpaired += [qid for qid in predictions if qid not in truths]
    if unpaired:
        raise InvalidRequestError(
            f"predictions and ground truth must hold the same qids; {len(unpaired)} are in one "
            f"only, the first is {unpaired[0]}"
        )
    pairs = [(predictions[qid], truth) for qid, truth in truths.items()]
    measured: dict[str, list[float]] = {}
    for prediction, truth in pairs:
        for name, value in _measure(prediction, truth).items():
            measured.setdefault(name, []).append(value)
    if not measured:
        raise InvalidRequestError(
            "nothing can be compared: the predictions hold clip scores alone, and the ground truth "
            "no saliency_scores"
            if pairs
            else "predictions and ground truth hold no queries"
        )
    if any(len(values) < len(pairs) for values in measured.values()):
        raise InvalidRequestError(
            "predicted windows, clip scores and ratings must each be given for all queries or none"
        )
    videos = [truth.video for truth in truths.values()]
    return MomentReport(
        seed=seed,
        figures={
            name: bootstrap_mean(values, videos, seed=seed) for name, values in measured.items()
        },
    )


def moment_average_precision(
    predicted: NDArray[np.float64], windows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return interpolated average precision at each of `IOU_THRESHOLDS`.

    The first 10 predicted windows count. By descending score (a tie keeps the order of the list),
    each takes the best-matching true window that is still free, if their IoU reaches the
    threshold, and is wrong otherwise. Precision at a recall is the highest at that or any higher
    recall; it is averaged over the true windows, and is 0 for those that are never found.
    """
    # Cut first and sorted then: the first 10 of the list, not the 10 best-scored.
    predicted = predicted[:MAX_PREDICTED_WINDOWS]
    predicted = predicted[np.argsort(-predicted[:, 2], kind="stable")]
    # (N, M); (0,) where nothing is predicted
    ious = np.array([[span_iou((p[0], p[1]), (w[0], w[1])) for w in windows] for p in predicted])
    return np.array([_interpolated(_match(ious, at), len(windows)) for at in IOU_THRESHOLDS])


def highlight_average_precision(
    clip_scores: NDArray[np.float64], is_highlight: NDArray[np.bool_]
) -> float:
    """Return interpolated average precision of the ranking of one annotator's clips.

    Clips with equal scores are taken together. Precision is interpolated as for windows and
    averaged over the blocks that add a highlight, each counted once. 0 where no clip is a
    highlight, 1 where all are. Scores past the last clip are ignored, missing ones are 0.
    """
    num_clips = len(is_highlight)
    if not num_clips or is_highlight.all() or not is_highlight.any():
        # Nothing to rank: the evaluator's values for it.
        return float(num_clips > 0 and is_highlight.all())
    padded = np.zeros(num_clips)
    padded[: len(clip_scores)] = clip_scores[:num_clips]
    taken, relevant = rank_blocks(padded, is_highlight)
    # Backwards, the running maximum is the best precision at this recall or a higher one.
    precision = np.maximum.accumulate((relevant / taken)[::-1])[::-1]
    return float(precision[np.diff(relevant, prepend=0) > 0].mean())


def highlight_hit_at_1(clip_scores: NDArray[np.float64], is_highlight: NDArray[np.bool_]) -> float:
    """Return whether any annotator has the best clip, the earliest of tied ones, as a highlight.

    Args:
        clip_scores: float64 (C',), C' >= 1. A best clip past the end of the video is a miss.
        is_highlight: bool (C, 3).
    """
    best = int(np.argmax(clip_scores))  # of tied ones the first
    return float(best < len(is_highlight) and is_highlight[best].any())


def highlight_figures(
    clip_scores: NDArray[np.float64], saliency: NDArray[np.int64]
) -> dict[str, float]:
    """Return mAP and HIT@1 of one query's clips at each of `SALIENCY_LEVELS`."""
    figures = {}
    for level, lowest in SALIENCY_LEVELS.items():
        is_highlight = saliency >= lowest
        figures[f"highlight_map_{level}"] = float(
            np.mean([highlight_average_precision(clip_scores, each) for each in is_highlight.T])
        )
        figures[f"highlight_hit_at_1_{level}"] = highlight_hit_at_1(clip_scores, is_highlight)
    return figures


def _measure(prediction: Prediction, truth: GroundTruth) -> dict[str, float]:
    figures: dict[str, float] = {}
    if prediction.windows is not None:
        # R1 takes the window listed first, whatever its score, and mAP sorts by score; without a
        # window both are 0.
        true = [(start, end) for start, end in truth.windows]
        iou = max((best_iou((p[0], p[1]), true) for p in prediction.windows[:1]), default=0.0)
        precisions = moment_average_precision(prediction.windows, truth.windows)
        figures = {
            "moment_r1_at_05": float(iou >= 0.5),
            "moment_r1_at_07": float(iou >= 0.7),
            "moment_map": float(precisions.mean()),
            "moment_map_at_05": float(precisions[IOU_THRESHOLDS.index(0.5)]),
            "moment_map_at_075": float(precisions[IOU_THRESHOLDS.index(0.75)]),
        }
    if prediction.clip_scores is not None and truth.saliency is not None:
        figures |= highlight_figures(prediction.clip_scores, truth.saliency)
    return figures


def _match(ious: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Return bool (N,), whether each prediction, best first, finds a free window; (N, M) ious."""
    # Without predictions ious is (0,), this has no dimension, and the loop is not entered.
    free = np.ones(ious.shape[1:], np.bool_)
    found = np.zeros(len(ious), np.bool_)
    for i, row in enumerate(ious):
        # Windows that are taken lie below every threshold. One that finds its best match taken may
        # still claim another, which matters where true windows overlap.
        candidates = np.where(free, row, -1.0)
        best = int(np.argmax(candidates))
        if candidates[best] >= threshold:
            found[i], free[best] = True, False
    return found


def _interpolated(found: NDArray[np.bool_], num_windows: int) -> float:
    # (N,) precision after each prediction
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    highest_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    # Divided by M, not by those found: a window that is missed counts with a precision of 0.
    return float(highest_from_here[found].sum() / num_windows)


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
    """Return float64 (C',), C' >= 1: `pred_saliency_scores` of a line."""
    scores = _read_array(value, "pred_saliency_scores")
    if not len(scores):
        raise ValueError("pred_saliency_scores is empty")
    return scores


def _read_array(
    value: Mapping[str, Any], name: str, *, width: int | None = None
) -> NDArray[np.float64]:
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

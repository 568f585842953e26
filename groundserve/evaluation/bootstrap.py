"""Intervals from resampled videos: questions of one video are not independent of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95

_Counts = NDArray[np.int64]


class AsDict:
    """Base of dataclasses that become JSON."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers; `figures` stand beside the other fields, each under its name."""
        values: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = _plain(getattr(self, field.name))
            values |= value if field.name == "figures" else {field.name: value}
        return values


@dataclass(frozen=True, kw_only=True)
class Estimate(AsDict):
    """A figure with its percentile interval."""

    value: float
    low: float | None
    """Lower end of the 95% interval; None where fewer than two videos allow one."""
    high: float | None
    num_questions: int
    num_videos: int


def bootstrap(
    statistic: Callable[[_Counts], float],
    videos: Sequence[str],
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Estimate a statistic of questions; videos are drawn with replacement, questions come along.

    Args:
        statistic: From int64 (n,), how often each question counts, to a number; NaN where it is
            undefined, and such a resample is left out.
        videos: n names, the video of each question.
        seed: Of the resamples.
        num_resamples: How many.

    Raises:
        InvalidRequestError: No question, or a negative seed.
    """
    require_seed(seed)
    if not videos:
        raise InvalidRequestError("cannot estimate from no questions")
    names, members = np.unique(np.array(videos), return_inverse=True)
    value = statistic(np.ones(len(videos), np.int64))
    low = high = None
    if len(names) > 1:
        drawn = np.array([statistic(c[members]) for c in _draws(len(names), num_resamples, seed)])
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn):
            tail = 50 * (1 - CONFIDENCE)
            low, high = (float(end) for end in np.percentile(drawn, [tail, 100 - tail]))
    return Estimate(
        value=value, low=low, high=high, num_questions=len(videos), num_videos=len(names)
    )


def bootstrap_mean(
    values: Sequence[float] | NDArray[np.float64],
    videos: Sequence[str],
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Estimate the mean over questions; a video with more questions weighs more."""
    array = np.asarray(values, np.float64)
    if array.shape != (len(videos),):
        raise InvalidRequestError(
            f"values and videos must have the same length, got {array.shape} and {len(videos)}"
        )
    return bootstrap(
        lambda counts: float(counts @ array / counts.sum()),
        videos,
        seed=seed,
        num_resamples=num_resamples,
    )


def bootstrap_difference(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    videos: Sequence[str],
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Estimate the mean of first - second on the same questions, in the same resamples.

    The interval is that of the paired difference: what makes a question hard for both cancels out.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    return bootstrap_mean(difference, videos, seed=seed, num_resamples=num_resamples)


def require_seed(seed: int) -> None:
    """Refuse what numpy's generators do not take."""
    if seed < 0:
        raise InvalidRequestError(f"seed must be >= 0, got {seed}")


def _plain(value: Any) -> Any:
    if isinstance(value, AsDict):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _draws(num_videos: int, num_resamples: int, seed: int) -> Iterator[_Counts]:
    """Yield int64 (V,), how often each video was drawn; the same sequence for the same seed."""
    rng = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield np.bincount(rng.integers(num_videos, size=num_videos), minlength=num_videos)

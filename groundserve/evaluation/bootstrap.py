"""Intervals from resampled videos: questions of one video are not independent of each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95

_Numbers = Sequence[float] | NDArray[np.float64]


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
    statistic: Callable[[NDArray[np.int64]], float], videos: Sequence[str], *, seed: int
) -> Estimate:
    """Estimate a statistic of questions; videos are drawn with replacement, questions come along.

    Args:
        statistic: From int64 (n,), how often each question counts, to a number; NaN where it is
            undefined, and such a resample is left out.
        videos: n names, the video of each question.
        seed: Of the resamples: the same videos are drawn for the same seed.
    """
    require_seed(seed)
    if not videos:
        raise InvalidRequestError("cannot estimate from no questions")
    names, members = np.unique(np.array(videos), return_inverse=True)
    num = len(names)
    low = high = None
    if num > 1:
        rng = np.random.default_rng(seed)
        # (V,) each: how often each video was drawn
        draws = (
            np.bincount(rng.integers(num, size=num), minlength=num) for _ in range(NUM_RESAMPLES)
        )
        drawn = np.array([statistic(counts[members]) for counts in draws])
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn):
            tail = 50 * (1 - CONFIDENCE)
            low, high = (float(end) for end in np.percentile(drawn, [tail, 100 - tail]))
    value = statistic(np.ones(len(videos), np.int64))
    return Estimate(value=value, low=low, high=high, num_questions=len(videos), num_videos=num)


def bootstrap_mean(values: _Numbers, videos: Sequence[str], *, seed: int) -> Estimate:
    """Estimate the mean over questions; a video with more questions weighs more."""
    array = np.asarray(values, np.float64)
    if array.shape != (len(videos),):
        raise InvalidRequestError(
            f"values and videos must have the same length, got {array.shape} and {len(videos)}"
        )
    return bootstrap(lambda counts: float(counts @ array / counts.sum()), videos, seed=seed)


def bootstrap_means(
    measured: Sequence[Mapping[str, float]], videos: Sequence[str], *, seed: int
) -> dict[str, Estimate]:
    """Estimate the mean over questions of each figure, by name; none where there is no question."""
    return {
        name: bootstrap_mean([one[name] for one in measured], videos, seed=seed)
        for name in (measured[0] if measured else ())
    }


def bootstrap_difference(
    first: _Numbers, second: _Numbers, videos: Sequence[str], *, seed: int
) -> Estimate:
    """Estimate the mean of first - second on the same questions, in the same resamples.

    What makes a question hard for both cancels out.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    return bootstrap_mean(difference, videos, seed=seed)


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

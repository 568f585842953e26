"""In what the evaluations of the references differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from groundserve.errors import InvalidRequestError


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One reference's choices."""

    rounds_iou: bool
    """Whether moments are compared in fractions of the duration, and their IoU is rounded to two
    decimals before it is compared; else in seconds and as it is."""
    merges_neighbours: bool
    """Whether told events that follow each other and tell the same are joined."""
    straightens: bool
    """Whether an event that ends before it starts is turned around."""
    sorts_events: bool
    """Whether SODA_c takes events by their start; else as they are told."""
    f1_of_videos: bool
    """Whether F1 is the mean over videos of each one's F1, of its precision and recall over all
    thresholds; else, at each threshold, that of the means over videos."""
    counts_unanswered: bool
    """Whether annotated videos without an answer count, with 0."""


VTIMELLM = Protocol(
    rounds_iou=True,
    merges_neighbours=True,
    straightens=False,
    sorts_events=True,
    f1_of_videos=False,
    counts_unanswered=False,
)
"""huangb23/VTimeLLM c34ae56, `vtimellm/eval`."""

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "vtimellm": VTIMELLM,
        # gyxxyg/VTG-LLM ce13f3e, `metrics/dvc/eval_dvc.py` and `metrics/tvg/eval_tvg.py`.
        "vtgllm": Protocol(
            rounds_iou=False,
            merges_neighbours=False,
            straightens=True,
            sorts_events=False,
            f1_of_videos=True,
            counts_unanswered=True,
        ),
        # ranjaykrishna/densevid_eval with fujiso/SODA: ActivityNet Captions' own, which VTG-LLM's
        # `metrics/dvc/eval_dvc_anet.py` is as well.
        "activitynet": Protocol(
            rounds_iou=False,
            merges_neighbours=False,
            straightens=False,
            sorts_events=True,
            f1_of_videos=False,
            counts_unanswered=False,
        ),
    }
)
"""By the name that `--protocol` has for it."""


def get_protocol(name: str) -> Protocol:
    """Return the protocol of this name."""
    if name not in PROTOCOLS:
        raise InvalidRequestError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {name}")
    return PROTOCOLS[name]

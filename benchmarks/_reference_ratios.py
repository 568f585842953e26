"""What `vs_reference` compares, and how pairs become ratios: plain numbers in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks._media import Codec
from benchmarks._reference_sides import Answer, SideName
from benchmarks._usage import Usage


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One video, one number of frames, and who of ours is asked beside the reference."""

    ratio: str
    """Its name in `ratios`, and on the command line."""
    codec: Codec
    """Of the video; 720p."""
    gop: int
    """Frames from one key frame to the next."""
    num_frames: int
    """T."""
    pairs: int
    """How often both sides answer."""
    ours: SideName = "in_process"
    """Which of ours."""
    asks_again: bool = False
    """Whether a second question about the same video follows."""
    is_exact: bool = True
    """Whether both score the same frames in float32, so that the logits must agree."""
    rough_seconds: int
    """Of a pair on two cores with 10-minute videos; for the estimate that is printed alone."""


WORKLOADS = (
    Workload(
        ratio="cold_gop12",
        codec="h264",
        gop=12,
        num_frames=64,
        pairs=5,
        asks_again=True,
        rough_seconds=80,
    ),
    Workload(ratio="cold_gop250", codec="h264", gop=250, num_frames=64, pairs=5, rough_seconds=100),
    Workload(ratio="cold_vp9", codec="vp9", gop=250, num_frames=64, pairs=5, rough_seconds=90),
    Workload(
        ratio="cold_gop12_512", codec="h264", gop=12, num_frames=512, pairs=3, rough_seconds=270
    ),
    Workload(
        ratio="triton_gop12",
        codec="h264",
        gop=12,
        num_frames=64,
        pairs=3,
        ours="triton",
        rough_seconds=80,
    ),
    Workload(
        ratio="int8_keyframes_gop250",
        codec="h264",
        gop=250,
        num_frames=64,
        pairs=3,
        ours="int8_keyframes",
        is_exact=False,
        rough_seconds=70,
    ),
)
Floor = dict[str, float]
"""Least seconds by stage: "encode", "ground", or one of them."""
SECOND_QUESTION = "second_question"
"""The ratio of the questions that follow in the workload that asks again."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one question took one side."""

    usage: Usage
    """Time, processor seconds, memory."""
    timing_ms: dict[str, float]
    """By stage."""
    num_frames: int
    """T."""

    @classmethod
    def of(cls, answer: Answer) -> Sample:
        """Leave out what was answered."""
        scored = answer.scored
        return cls(
            usage=answer.usage,
            timing_ms=scored.timing_ms,
            num_frames=len(scored.frame_indices),
        )

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Sample:
        """Read what `asdict` made."""
        return cls(**{**raw, "usage": Usage(**raw["usage"])})

    def share_of_peak(self, floor: Floor) -> float | None:
        """Return the floor of those networks that ran over their time; None where none ran."""
        ran = [name for name in floor if self.timing_ms.get(name)]
        seconds = sum(self.timing_ms[name] for name in ran) / 1000
        return sum(floor[name] for name in ran) / seconds if ran else None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both sides' answers to the same question, one right after the other."""

    reference: Sample
    """By its procedure."""
    ours: Sample
    """By ours."""
    reference_kept: Sample | None = None
    """A second question by a reference that had kept the features, which its script does not."""
    logit_error: float | None
    """Norm of the logits' difference over the norm of the reference's; None of other frames."""
    reference_was_first: bool
    """The order of the pair."""
    commit: str | None
    """What of ours answered."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a report holds."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Pair:
        """Read what `to_dict` made."""
        kept = raw["reference_kept"]
        return cls(
            **{
                **raw,
                "reference": Sample.from_dict(raw["reference"]),
                "ours": Sample.from_dict(raw["ours"]),
                "reference_kept": None if kept is None else Sample.from_dict(kept),
            }
        )


def ratio_row(
    pairs: Sequence[Pair], *, needed: Floor, ours: Floor, reference: Floor
) -> dict[str, Any]:
    """Return one entry of `ratios`: how many times faster ours is.

    Args:
        pairs: At least one.
        needed: Least time of the networks that the question needs, in float32.
        ours: Of what ours computes for a new video, by stage.
        reference: The same of the reference.
    """
    row: dict[str, Any] = {
        **_spread([_faster(pair.reference, pair.ours) for pair in pairs]),
        "cpu_seconds": _spread(
            [pair.reference.usage.cpu_seconds / pair.ours.usage.cpu_seconds for pair in pairs]
        ),
        "floor_seconds": sum(needed.values()),
        "reference": _side([pair.reference for pair in pairs], needed, reference),
        "ours": _side([pair.ours for pair in pairs], needed, ours),
        "largest_logit_error": max(
            (pair.logit_error for pair in pairs if pair.logit_error is not None), default=None
        ),
        "commits": sorted({str(pair.commit) for pair in pairs}),
        "all_pairs": [pair.to_dict() for pair in pairs],
    }
    kept = [(pair.reference_kept, pair.ours) for pair in pairs if pair.reference_kept is not None]
    if kept:
        row["if_the_reference_kept_features"] = {
            **_spread([_faster(theirs, our) for theirs, our in kept]),
            "reference": _side([theirs for theirs, _ in kept], needed, reference),
        }
    return row


def ratio_at_equal_peaks(pairs: Sequence[Pair], *, times_faster: float) -> dict[str, Any]:
    """Estimate the ratio where the reference's own library multiplies as fast as the best one.

    Its networks' time is divided by `times_faster`, all else is as measured: what a reader with
    another processor may expect, since libraries differ by what they make of a processor.

    Args:
        pairs: At least one.
        times_faster: The machine's peak over that of the reference's library, >= 1.
    """

    def ratio(pair: Pair) -> float:
        timing = pair.reference.timing_ms
        nets = sum(timing.get(name, 0.0) for name in ("encode", "ground")) / 1000
        wall = pair.reference.usage.wall_seconds - nets * (1 - 1 / times_faster)
        return wall / pair.ours.usage.wall_seconds

    return _spread([ratio(pair) for pair in pairs])


def _faster(reference: Sample, ours: Sample) -> float:
    return reference.usage.wall_seconds / ours.usage.wall_seconds


def _side(samples: Sequence[Sample], needed: Floor, computed: Floor) -> dict[str, Any]:
    """Return one side's medians, and how near its networks and its answer are to their floors."""
    stages = sorted({name for sample in samples for name in sample.timing_ms})
    wall = median(sample.usage.wall_seconds for sample in samples)
    shares = [share for sample in samples if (share := sample.share_of_peak(computed)) is not None]
    return {
        "wall_seconds": wall,
        "cpu_seconds": median(sample.usage.cpu_seconds for sample in samples),
        "peak_rss_mib": max(sample.usage.peak_rss_mib for sample in samples),
        "num_frames": samples[0].num_frames,
        "timing_ms": {
            name: median(sample.timing_ms.get(name, 0.0) for sample in samples) for name in stages
        },
        # Of what it computes, while it computes it.
        "nets_share_of_peak": median(shares) if shares else None,
        # Of what the question needs, in all the time that it took.
        "whole_share_of_floor": sum(needed.values()) / wall,
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "pairs": list(values),
    }

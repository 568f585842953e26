"""A config that cannot be trained cannot be made."""

from dataclasses import replace
from pathlib import Path

import pytest

from groundserve.errors import InvalidRequestError
from train.families.videoitg.stages import grounding, projector

PATHS = {"init": Path("a"), "records": Path("b"), "media_root": Path("c"), "out": Path("d")}


@pytest.mark.parametrize(
    ("part", "field", "value", "rule"),
    [
        ("data", "max_frames", 0, "must be >= 1, got 0"),
        ("data", "max_unreadable_share", 1.5, r"must be in \[0, 1\], got 1.5"),
        ("data", "sample_fps", 0.0, "must be > 0, got 0.0"),
        ("optimizer", "learning_rate", float("nan"), "must be > 0, got nan"),
        ("optimizer", "warmup_ratio", 1.0, r"must be in \[0, 1\), got 1.0"),
        ("optimizer", "betas", (0.9, 1.0), r"must be in \[0, 1\), got \[0.9, 1.0\]"),
        ("optimizer", "max_grad_norm", 0.0, "must be > 0, got 0.0"),
        (None, "batch_size", 0, "must be >= 1, got 0"),
        (None, "auxiliary_weight", -0.5, "must be >= 0, got -0.5"),
    ],
)
def test_a_field_out_of_range_is_refused(part, field, value, rule):
    config = grounding(**PATHS)
    with pytest.raises(InvalidRequestError, match=f"{field} {rule}"):
        replace(getattr(config, part) if part else config, **{field: value})


def test_anchors_are_for_grounding_only():
    assert replace(grounding(**PATHS), variant="anchor").variant == "anchor"
    with pytest.raises(InvalidRequestError, match='stage "projector" writes text'):
        replace(projector(**PATHS), variant="anchor")

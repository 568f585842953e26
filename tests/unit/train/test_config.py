"""A config that cannot be trained cannot be made."""

from dataclasses import replace
from pathlib import Path

import pytest

from groundserve.errors import InvalidRequestError
from train.config import RANDOM_SAMPLE_FPS
from train.families.videoitg.stages import STAGES, grounding, projector

PATHS = {"init": Path("a"), "records": Path("b"), "media_root": Path("c"), "out": Path("d")}


@pytest.mark.parametrize(
    ("part", "field", "value", "rule"),
    [
        ("data", "max_frames", 0, "must be >= 1, got 0"),
        ("data", "vision_token_num", 0, "must be >= 1, got 0"),
        ("data", "vision_min_num", 0, "must be >= 1, got 0"),
        ("data", "max_length", 0, "must be >= 1, got 0"),
        ("data", "questions_per_video", 0, "must be >= 1, got 0"),
        ("data", "num_workers", 0, "must be >= 1, got 0"),
        ("data", "max_unreadable_share", -0.1, r"must be in \[0, 1\], got -0.1"),
        ("data", "max_unreadable_share", 1.5, r"must be in \[0, 1\], got 1.5"),
        ("data", "max_unreadable_share", float("nan"), r"must be in \[0, 1\], got nan"),
        ("data", "sample_fps", 0.0, "must be > 0, got 0.0"),
        ("optimizer", "learning_rate", 0.0, "must be > 0, got 0.0"),
        ("optimizer", "learning_rate", float("nan"), "must be > 0, got nan"),
        ("optimizer", "out_proj_learning_rate", -1.0, "must be > 0, got -1.0"),
        ("optimizer", "warmup_ratio", 1.0, r"must be in \[0, 1\), got 1.0"),
        ("optimizer", "warmup_ratio", -0.1, r"must be in \[0, 1\), got -0.1"),
        ("optimizer", "betas", (0.9, 1.0), r"must be in \[0, 1\), got \[0.9, 1.0\]"),
        ("optimizer", "eps", -1e-8, "must be >= 0, got -1e-08"),
        ("optimizer", "weight_decay", -0.1, "must be >= 0, got -0.1"),
        ("optimizer", "max_grad_norm", 0.0, "must be > 0, got 0.0"),
        (None, "batch_size", 0, "must be >= 1, got 0"),
        (None, "accumulation_steps", 0, "must be >= 1, got 0"),
        (None, "epochs", 0, "must be >= 1, got 0"),
        (None, "max_steps", 0, "must be >= 1, got 0"),
        (None, "save_every_steps", 0, "must be >= 1, got 0"),
        (None, "keep_last", 0, "must be >= 1, got 0"),
        (None, "log_every_steps", 0, "must be >= 1, got 0"),
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


def test_only_the_last_stage_scores_frames():
    assert [stage(**PATHS).is_grounding for stage in STAGES.values()] == [False] * 3 + [True]


def test_random_rates_are_the_references():
    assert RANDOM_SAMPLE_FPS == (0.5, 1.0, 2.0, 4.0, 8.0)

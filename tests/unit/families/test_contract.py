"""What a build asks of a family, broken one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from groundserve.errors import GroundserveError
from groundserve.families.base import FamilyCheckpoint
from groundserve.families.contract import check_family, check_features, check_logits
from groundserve.families.plans import FrameStream, PlanInput, VideoPlan, units_of


@dataclass(frozen=True, kw_only=True)
class Spec:
    feature_width: int = 16
    max_feature_tokens: int = 96
    max_tokens: int | None = None


class Family:
    """At most 48 frames, 2 tokens each."""

    name = "small"
    head = "frames"
    spec_type = Spec

    def __init__(self, **change):
        self.change = change

    def plan_inputs(self, spec):
        return (PlanInput(name="WEIGHTS", dims=(-1, 2), max_dims=(8, 2)),)

    def plan(self, index, options, spec, limits=None):
        frame_indices = np.arange(min(48, index.num_source_frames))
        plan = VideoPlan(
            index=index,
            num_frames=48,
            frame_indices=frame_indices,
            units=units_of(frame_indices),
            num_visual_tokens=2 * len(frame_indices),
            inputs={"WEIGHTS": np.ones((3, 2), np.float32)},
        )
        return replace(plan, **self.change)

    def streams(self, spec):
        return (FrameStream(name="FRAMES", size=8),)

    def open_tokenizer(self, path, spec): ...
    def recognises(self, raw_config): ...
    def open_checkpoint(self, path, *, vision_tower=None): ...
    def describe(self, facts): ...


class Checkpoint(FamilyCheckpoint):
    """Has every member."""


def test_a_family_that_keeps_the_contract_passes():
    check_family(Family(), Checkpoint(), Spec())
    check_features(Family(), Spec(), np.zeros((4, 2, 16)), num_units=4)
    check_logits(Family(), np.zeros(4, np.float32), num_frames=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"frame_indices": np.array([0, 0, 1]), "units": units_of(np.array([0, 0, 1]))},
            "plan: frame_indices must be strictly increasing",
        ),
        (
            {"frame_indices": np.arange(4), "units": np.arange(4).reshape(2, 2)},
            r"plan: units must be units_of\(frame_indices\)",
        ),
        ({"num_visual_tokens": 97}, "plan: num_visual_tokens must be <= 96 .* got 97"),
        ({"inputs": {"WEIGHTS": np.ones((9, 2), np.float32)}}, r"at most \(8, 2\), got .*\(9, 2\)"),
    ],
)
def test_a_plan_that_breaks_it_is_named(change, message):
    family = Family(**change)
    with pytest.raises(GroundserveError, match=f"^the family small: .*{message}"):
        check_family(family, Checkpoint(), Spec())


def test_missing_members_are_named():
    class Forgetful:
        name, head, spec_type = "small", "frames", Spec

        def plan(self, index, options, spec, limits=None): ...

    with pytest.raises(GroundserveError, match="Forgetful lacks describe, "):
        check_family(Forgetful(), Checkpoint(), Spec())
    with pytest.raises(GroundserveError, match=r"object lacks .*vocab_size"):
        check_family(Family(), object(), Spec())


def test_nan_is_the_models_own_and_not_the_engines():
    with pytest.raises(GroundserveError, match="vision stage gives NaN or infinity in PyTorch"):
        check_features(Family(), Spec(), np.full((4, 2, 16), np.nan), num_units=4)
    with pytest.raises(GroundserveError, match="grounding stage gives NaN or infinity in PyTorch"):
        check_logits(Family(), np.full(4, np.inf, np.float32), num_frames=4)

"""What a build asks of a family, broken one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.families import get_family
from groundserve.families.base import FamilyCheckpoint, TextCheckpoint
from groundserve.families.contract import check_block, check_family, check_features, check_logits
from groundserve.families.plans import FrameStream, PlanInput, VideoPlan, units_of
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.options import AnswerOptions
from tests.unit.families.plans import video


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

    def check_features(self, shape, spec, limits=None): ...
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
        ({"inputs": {}}, r"plan: inputs must be .*\['WEIGHTS'\], got \[\]"),
        ({"inputs": {"WEIGHTS": np.ones((3, 2))}}, "WEIGHTS must be float32 .* got float64"),
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

    with pytest.raises(GroundserveError, match="Forgetful lacks check_features, describe, "):
        check_family(Forgetful(), Checkpoint(), Spec())
    with pytest.raises(GroundserveError, match=r"object lacks .*vocab_size"):
        check_family(Family(), object(), Spec())


def test_a_spec_of_another_type_is_refused():
    class Other(Spec):
        pass

    family = Family()
    family.spec_type = Other
    with pytest.raises(GroundserveError, match=r"must give a Other, .* got a Spec"):
        check_family(family, Checkpoint(), Spec())


@pytest.mark.parametrize("shape", [(4, 16), (4, 2, 8), (3, 2, 16)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(GroundserveError, match=r"\(4, P, 16\) here, got"):
        check_features(Family(), Spec(), np.zeros(shape), num_units=4)


@pytest.mark.parametrize(
    "logits", [np.zeros((4, 1), np.float32), np.zeros(3, np.float32), np.zeros(4)]
)
def test_logits_of_another_shape_or_dtype_are_refused(logits):
    with pytest.raises(GroundserveError, match=r"must give float32 \(4,\)"):
        check_logits(Family(), logits, num_frames=4)


def test_nan_is_the_models_own_and_not_the_engines():
    with pytest.raises(GroundserveError, match="vision stage gives NaN or infinity in PyTorch"):
        check_features(Family(), Spec(), np.full((4, 2, 16), np.nan), num_units=4)
    with pytest.raises(GroundserveError, match="grounding stage gives NaN or infinity in PyTorch"):
        check_logits(Family(), np.full(4, np.inf, np.float32), num_frames=4)


class AnsweringFamily(Family):
    """Of head "text": always 6 frames, which repeat, 2 tokens each of which its front keeps one."""

    head = "text"
    tasks = ("chat",)
    tasks_without_query = ()
    part_names = ("base",)
    refuses = False

    def __init__(self, *front_arrays, **change):
        super().__init__(**change)
        self.front = front_arrays or (np.zeros((4, 3), np.float32),)

    def plan(self, index, options, spec, limits=None):
        assert options == AnswerOptions()
        frame_indices = np.linspace(0, index.num_source_frames - 1, 6).astype(np.int64)
        plan = VideoPlan(
            index=index,
            num_frames=6,
            frame_indices=frame_indices,
            units=units_of(frame_indices),
            num_visual_tokens=6,
            inputs={"WEIGHTS": np.ones((3, 2), np.float32)},
        )
        return replace(plan, **self.change)

    def front_inputs(self, spec):
        return (PlanInput(name="SECONDS", dims=(-1, 3), max_dims=(6, 3)),)

    def front_arrays(self, seen, spec):
        assert (
            seen.num_visual_tokens == self.plan(video(9), AnswerOptions(), spec).num_visual_tokens
        )
        return self.front

    def check_seen(self, seen, spec):
        if self.refuses:
            raise InvalidRequestError("seven tokens")

    def parse(self, text, task, seen): ...


class AnsweringCheckpoint(TextCheckpoint):
    """Has every member."""


def test_a_family_of_text_that_keeps_the_contract_passes():
    family = AnsweringFamily()
    check_family(family, AnsweringCheckpoint(), Spec())
    check_family(get_family("vtimellm"), AnsweringCheckpoint(), VTimeLLMSpec())
    check_features(family, Spec(), np.zeros((6, 2, 16)), num_units=6)
    plan = family.plan(video(3), AnswerOptions(), Spec())
    assert plan.frame_indices.tolist() == [0, 0, 0, 1, 1, 2]
    check_block(family, np.zeros((6, 8)), plan)


def test_members_of_the_head_are_asked_for():
    with pytest.raises(GroundserveError, match=r"Checkpoint lacks copy_to, load_decoder, load_fro"):
        check_family(AnsweringFamily(), Checkpoint(), Spec())
    family = Family()
    family.head = "text"
    with pytest.raises(GroundserveError, match=r"Family lacks check_seen, front_arrays, front_"):
        check_family(family, AnsweringCheckpoint(), Spec())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.zeros((4, 3)),), r"front_arrays: input SECONDS must be float32 .* got float64"),
        ((np.zeros((7, 3), np.float32),), r"at most \(6, 3\), got float32 \(7, 3\)"),
        ((np.zeros((4, 3), np.float32),) * 2, r"must be those of \['SECONDS'\], got 2"),
    ],
)
def test_arrays_of_the_front_that_are_not_those_declared_are_named(arrays, message):
    with pytest.raises(GroundserveError, match=message):
        check_family(AnsweringFamily(*arrays), AnsweringCheckpoint(), Spec())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros((5, 8)), r"\(6, H\) here, got \(5, 8\)"),
        (np.zeros((1, 6, 8)), r"got \(1, 6, 8\)"),
        (np.full((6, 8), np.nan), "the front gives NaN"),
    ],
)
def test_a_block_of_another_shape_or_not_finite_is_refused(block, message):
    family = AnsweringFamily()
    plan = family.plan(video(3), AnswerOptions(), Spec())
    with pytest.raises(GroundserveError, match=message):
        check_block(family, block, plan)

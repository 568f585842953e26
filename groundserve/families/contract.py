"""What is asked of a family before a checkpoint of it is built: its members, plans and outputs.

Shape letters as in `base`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import get_annotations
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import GroundserveError
from groundserve.families.base import (
    Family,
    FamilyCheckpoint,
    FramesFamily,
    ModelSpec,
    TextCheckpoint,
    TextFamily,
)
from groundserve.families.default_video import default_plan, short_plan
from groundserve.families.plans import PlanInput, SeenVideo, VideoPlan, units_of
from groundserve.options import Head

_SHORT_FRAMES = 4

_SEAMS: Mapping[Head, tuple[type, type]] = {
    "frames": (FramesFamily, FamilyCheckpoint),
    "text": (TextFamily, TextCheckpoint),
}
"""What a family is, and a checkpoint of it."""


def check_family(
    family: Family[Any, Any], opened: FamilyCheckpoint | TextCheckpoint, spec: ModelSpec
) -> None:
    """Check all that needs no weights: members, and the plans of a short video and a long one."""
    with _faults_of(family):
        for seam, one in zip(
            (*_SEAMS[family.head], ModelSpec), (family, opened, spec), strict=True
        ):
            # By the class: a property that computes is not asked.
            missing = [name for name in _members(seam) if not _has(one, name)]
            _require(not missing, f"{type(one).__name__} lacks {', '.join(missing)}")
        _require(
            isinstance(spec, family.spec_type),
            f"model_spec must give a {family.spec_type.__name__}, the family's spec_type, "
            f"got a {type(spec).__name__}",
        )
    with _faults_of(family, "plan: "):  # also what `VideoPlan` asserts
        for plan in (short_plan(family, spec, _SHORT_FRAMES), default_plan(family, spec)):
            if family.head == "frames":
                increasing = (np.diff(plan.frame_indices) > 0).all()
                _require(increasing, "frame_indices must be strictly increasing")
                once = np.array_equal(plan.units, units_of(plan.frame_indices))
                _require(once, "units must be units_of(frame_indices), a unit a frame")
            else:
                with _faults_of(family):
                    _check_front_arrays(cast(TextFamily[Any], family), spec, plan.seen)
            _check_plan(family, spec, plan)


def check_features(
    family: Family[Any, Any], spec: ModelSpec, features: NDArray[Any], *, num_units: int
) -> None:
    """Check what the vision stage made in PyTorch of U units."""
    shape, width = features.shape, spec.feature_width
    with _faults_of(family):
        _require(
            len(shape) == 3 and (shape[0], shape[2]) == (num_units, width),
            f"the vision stage must give (units, tokens, feature_width), ({num_units}, P, {width}) "
            f"here, got {shape}",
        )
        _require(np.isfinite(features).all(), "the vision stage gives NaN or infinity in PyTorch")


def check_logits(family: FramesFamily[Any, Any], logits: NDArray[Any], *, num_frames: int) -> None:
    """Check what the grounding stage made in PyTorch of T frames."""
    with _faults_of(family):
        _require(
            logits.shape == (num_frames,) and logits.dtype == np.float32,
            f"the grounding stage must give float32 ({num_frames},) for {num_frames} frames, "
            f"got {logits.dtype.name} {logits.shape}",
        )
        _require(np.isfinite(logits).all(), "the grounding stage gives NaN or infinity in PyTorch")


def _check_plan(family: Family[Any, Any], spec: ModelSpec, plan: VideoPlan) -> None:
    _require(
        plan.num_visual_tokens <= spec.max_feature_tokens,
        f"num_visual_tokens must be <= {spec.max_feature_tokens} (max_feature_tokens of the spec), "
        f"got {plan.num_visual_tokens}",
    )
    declared = {one.name: one for one in family.plan_inputs(spec)}
    _require(
        plan.inputs.keys() == declared.keys(),
        f"inputs must be those of plan_inputs, {sorted(declared)}, got {sorted(plan.inputs)}",
    )
    for name, one in declared.items():
        got = plan.inputs[name]
        if one.of_units:
            _require(
                got.shape[:1] == (len(plan.units),),
                f"input {name} must have {len(plan.units)} units in front, got {got.shape}",
            )
            got = got[0]
        _check_input(one, got)
    # What no stream shows is not decoded.
    num_frames = plan.units.shape[1]
    shown = {place for stream in family.streams(spec) for place in stream.frames}
    _require(
        shown == set(range(num_frames)),
        f"units have {num_frames} frames, and streams must show each of them, got frames "
        f"{sorted(shown)} of a unit",
    )


def _check_front_arrays(family: TextFamily[Any], spec: ModelSpec, seen: SeenVideo) -> None:
    declared, arrays = family.front_inputs(spec), family.front_arrays(seen, spec)
    names = [one.name for one in declared]
    _require(
        len(arrays) == len(declared), f"front_arrays must be those of {names}, got {len(arrays)}"
    )
    for one, array in zip(declared, arrays, strict=True):
        _check_input(one, array, "front_arrays: ")


def _check_input(declared: PlanInput, got: NDArray[Any], of_what: str = "") -> None:
    fits = len(got.shape) == len(declared.dims) and all(
        1 <= size <= most and dim in (-1, size)
        for size, dim, most in zip(got.shape, declared.dims, declared.max_dims, strict=True)
    )
    _require(
        fits and got.dtype == np.float32,
        f"{of_what}input {declared.name} must be float32 {declared.dims}, at most "
        f"{declared.max_dims}, got {got.dtype.name} {got.shape}",
    )


def _members(seam: type) -> list[str]:
    names = {name for one in seam.__mro__ for name in (*vars(one), *get_annotations(one))}
    return sorted(name for name in names if not name.startswith("_"))


def _has(one: object, name: str) -> bool:
    return name in getattr(one, "__dict__", ()) or hasattr(type(one), name)


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


@contextmanager
def _faults_of(family: Family[Any, Any], of_what: str = "") -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        raise GroundserveError(
            f"the family {family.name}: {of_what}{error}; see docs/families.md"
        ) from error

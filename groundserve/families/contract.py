"""What is asked of a family before a checkpoint of it is built: its members, plans and outputs.

Shape letters as in `base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import get_annotations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.families.base import (
    Family,
    FamilyCheckpoint,
    FramesFamily,
    ModelSpec,
    TextCheckpoint,
    TextFamily,
)
from groundserve.families.default_video import default_plan, short_plan
from groundserve.families.plans import PlanInput, VideoPlan, units_of
from groundserve.media.index import check_frame_indices
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
    seams = (*_SEAMS[family.head], ModelSpec)
    for seam, one in zip(seams, (family, opened, spec), strict=True):
        # By the class: a property that computes is not asked.
        missing = [name for name in _members(seam) if not _has(one, name)]
        if missing:
            raise _fault(family, f"{type(one).__name__} lacks {', '.join(missing)}")
    if not isinstance(spec, family.spec_type):
        raise _fault(
            family,
            f"model_spec must give a {family.spec_type.__name__}, the family's spec_type, "
            f"got a {type(spec).__name__}",
        )
    try:
        plans = (short_plan(family, spec, _SHORT_FRAMES), default_plan(family, spec))
    except AssertionError as error:  # of `VideoPlan`
        raise _fault(family, f"plan: {error}") from error
    for plan in plans:
        if family.head == "frames":
            _check_each_frame_once(family, plan)
        else:
            _check_front_arrays(family, spec, plan)
        if plan.num_visual_tokens > spec.max_feature_tokens:
            raise _fault(
                family,
                f"plan: num_visual_tokens must be <= {spec.max_feature_tokens} (max_feature_tokens "
                f"of the spec), got {plan.num_visual_tokens}",
            )
        _check_inputs(family, spec, plan)
        # What no stream shows is not decoded.
        num_frames = plan.units.shape[1]
        shown = {place for stream in family.streams(spec) for place in stream.frames}
        if shown != set(range(num_frames)):
            raise _fault(
                family,
                f"plan: units have {num_frames} frames, and streams must show each of them, got "
                f"frames {sorted(shown)} of a unit",
            )


def check_features(
    family: Family[Any, Any], spec: ModelSpec, features: NDArray[Any], *, num_units: int
) -> None:
    """Check what the vision stage made in PyTorch of U units."""
    shape, width = features.shape, spec.feature_width
    if len(shape) != 3 or (shape[0], shape[2]) != (num_units, width):
        raise _fault(
            family,
            f"the vision stage must give (units, tokens, feature_width), ({num_units}, P, {width}) "
            f"here, got {shape}",
        )
    _check_finite(family, features, stage="vision")


def check_logits(family: FramesFamily[Any, Any], logits: NDArray[Any], *, num_frames: int) -> None:
    """Check what the grounding stage made in PyTorch of T frames."""
    if logits.shape != (num_frames,) or logits.dtype != np.float32:
        raise _fault(
            family,
            f"the grounding stage must give float32 ({num_frames},) for {num_frames} frames, "
            f"got {logits.dtype.name} {logits.shape}",
        )
    _check_finite(family, logits, stage="grounding")


def _check_finite(family: Family[Any, Any], array: NDArray[Any], *, stage: str) -> None:
    if not np.isfinite(array).all():
        raise _fault(family, f"the {stage} stage gives NaN or infinity in PyTorch")


def _check_front_arrays(family: Family[Any, Any], spec: ModelSpec, plan: VideoPlan) -> None:
    text_family: TextFamily[Any] = family  # type: ignore[assignment]  # by its head
    declared = text_family.front_inputs(spec)
    arrays = text_family.front_arrays(plan.seen, spec)
    if len(arrays) != len(declared):
        names = [one.name for one in declared]
        raise _fault(family, f"front_arrays must be those of {names}, got {len(arrays)}")
    for one, array in zip(declared, arrays, strict=True):
        _check_input(family, "front_arrays", one, array)


def _check_each_frame_once(family: Family[Any, Any], plan: VideoPlan) -> None:
    try:
        check_frame_indices(plan.frame_indices, plan.index.num_source_frames)
    except InvalidRequestError as error:
        raise _fault(family, f"plan: {error}") from error
    if not np.array_equal(plan.units, units_of(plan.frame_indices)):
        raise _fault(family, "plan: units must be units_of(frame_indices), a unit a frame")


def _check_inputs(family: Family[Any, Any], spec: ModelSpec, plan: VideoPlan) -> None:
    inputs: Mapping[str, NDArray[Any]] = plan.inputs
    declared = {one.name: one for one in family.plan_inputs(spec)}
    if inputs.keys() != declared.keys():
        raise _fault(
            family,
            f"plan: inputs must be those of plan_inputs, {sorted(declared)}, got {sorted(inputs)}",
        )
    for name, one in declared.items():
        got = inputs[name]
        if one.of_units:
            if got.shape[:1] != (len(plan.units),):
                raise _fault(
                    family,
                    f"plan: input {name} must have {len(plan.units)} units in front, "
                    f"got {got.shape}",
                )
            got = got[0]
        _check_input(family, "plan", one, got)


def _check_input(
    family: Family[Any, Any], of_what: str, declared: PlanInput, got: NDArray[Any]
) -> None:
    fits = len(got.shape) == len(declared.dims) and all(
        1 <= size <= most and dim in (-1, size)
        for size, dim, most in zip(got.shape, declared.dims, declared.max_dims, strict=True)
    )
    if not fits or got.dtype != np.float32:
        raise _fault(
            family,
            f"{of_what}: input {declared.name} must be float32 {declared.dims}, at most "
            f"{declared.max_dims}, got {got.dtype.name} {got.shape}",
        )


def _members(seam: type) -> list[str]:
    names = {name for one in seam.__mro__ for name in (*vars(one), *get_annotations(one))}
    return sorted(name for name in names if not name.startswith("_"))


def _has(one: object, name: str) -> bool:
    return name in getattr(one, "__dict__", ()) or hasattr(type(one), name)


def _fault(family: Family[Any, Any], what: str) -> GroundserveError:
    return GroundserveError(f"the family {family.name}: {what}; see docs/families.md")

"""What decoding makes of the targets of segments: an array for each of several uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits

ResizeRule = Literal["square", "short_side", "bilinear"]
"""How an upright frame of any size becomes S x S pixels.

- "square": RGB, then Pillow's bicubic filter to S x S; the aspect is not kept. Source:
  transformers 4.47.1, `image_transforms.resize`.
- "short_side": RGB, then Pillow's bicubic filter to S pixels on the shorter side and, with the
  aspect kept, a whole number on the longer one, rounded down; of that the S in the middle. Source:
  torchvision 0.16.2, `transforms.functional.resize` and `center_crop` of a Pillow image.
- "bilinear": FFmpeg's `scale` filter to S x S in the decoder's own pixel format, then RGB; the
  aspect is not kept. Source: decord 0.6.0, `VideoReader(width=S, height=S)`.
"""


def check_resize_rule(rule: str, *, image_size: int | None) -> None:
    """Check a rule; with frames as decoded, of no size, goes "square" alone, the default."""
    rules = get_args(ResizeRule)
    if rule not in rules:
        raise InvalidRequestError(f"resize must be one of {', '.join(rules)}, got {rule!r}")
    if image_size is None and rule != "square":
        raise InvalidRequestError(
            f"resize {rule!r} needs an image_size, got None, which leaves frames as decoded"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameOutput:
    """One array of frames; each of its targets is resized for it, and no other."""

    image_size: int | None = None
    """Side S; None leaves frames as decoded, which must then have one size."""
    resize: ResizeRule = "square"
    targets: NDArray[np.int64] | None = None
    """int64 (k,), places among the targets, increasing; all of them where None."""

    def places(self, num_targets: int) -> NDArray[np.int64]:
        """Return `targets`, or the places of all."""
        return np.arange(num_targets) if self.targets is None else self.targets


def check_outputs(outputs: Sequence[FrameOutput], num_targets: int, limits: Limits) -> None:
    """Check what is asked for, before anything is decoded."""
    shown = np.zeros(num_targets, np.bool_)
    for output in outputs:
        size = output.image_size
        if size is not None and not 1 <= size <= limits.max_side_pixels:
            raise InvalidRequestError(
                f"image_size must be 1 to {limits.max_side_pixels}, got {size}"
            )
        check_resize_rule(output.resize, image_size=size)
        if output.targets is not None:
            _check_places(output.targets, num_targets)
            if size is None:
                raise InvalidRequestError("frames as decoded are of all targets, got some")
        shown[output.places(num_targets)] = True
    if not shown.all():
        raise InvalidRequestError(
            f"each target must be in some output, got none for target {int(shown.argmin())}"
        )


def _check_places(targets: NDArray[Any], num_targets: int) -> None:
    is_places = targets.dtype == np.int64 and targets.ndim == 1
    if not is_places or not (
        (np.diff(targets) > 0).all() and ((targets >= 0) & (targets < num_targets)).all()
    ):
        raise InvalidRequestError(
            f"targets of an output must be int64 (k,), increasing, in [0, {num_targets})"
        )

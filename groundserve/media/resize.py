"""The rules by which a decoded frame comes to a model's size; `_resize` applies them."""

from __future__ import annotations

from typing import Literal, get_args

from groundserve.errors import InvalidRequestError

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
    """Check what a caller asks for.

    Args:
        rule: One of `ResizeRule`.
        image_size: Side S; None where frames stay as decoded, which "square" alone, the default,
            goes with.

    Raises:
        InvalidRequestError: Neither.
    """
    rules = get_args(ResizeRule)
    if rule not in rules:
        raise InvalidRequestError(f"resize must be one of {', '.join(rules)}, got {rule!r}")
    if image_size is None and rule != "square":
        raise InvalidRequestError(
            f"resize {rule!r} needs an image_size, got None, which leaves frames as decoded"
        )

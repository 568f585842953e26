"""The rules by which a decoded frame comes to a model's size."""

from __future__ import annotations

from typing import Literal

ResizeRule = Literal["square", "short_side", "bilinear"]
"""- "square": Pillow's bicubic filter, aspect not kept.
- "short_side": the same filter, aspect kept; the middle of the longer side is cut out.
- "bilinear": FFmpeg's bilinear scaling, aspect not kept."""

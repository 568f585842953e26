"""The rules by which a decoded frame comes to a model's size."""

from __future__ import annotations

from typing import Literal

ResizeRule = Literal["square"]
"""- "square": Pillow's bicubic filter, aspect not kept."""

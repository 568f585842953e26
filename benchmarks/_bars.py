"""A bar chart as SVG: the same bytes for the same numbers, whatever is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH = 640
_LABEL_WIDTH = 190
_VALUE_WIDTH = 60
_ROW_HEIGHT = 28
_TOP = 40
_BAR = "#4c78a8"
_INK = "#555"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One value with its spread."""

    label: str
    """Beside it."""
    bar: float
    """Its length, >= 0."""
    low: float
    """Where its whisker begins."""
    high: float
    """Where its whisker ends."""


def draw_bars(title: str, bars: Sequence[Bar], *, line: float | None = None) -> str:
    """Draw horizontal bars from 0, with whiskers.

    Args:
        title: Above them.
        bars: From the top down.
        line: A value that is marked across all bars.
    """
    most = max([bar.high for bar in bars] + [line or 0.0, 1e-9])
    scale = (_WIDTH - _LABEL_WIDTH - _VALUE_WIDTH) / most
    height = _TOP + _ROW_HEIGHT * len(bars) + 8

    def x(value: float) -> str:
        return f"{_LABEL_WIDTH + value * scale:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13">',
        # Pages are light or dark; the chart is not.
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="22" font-weight="bold">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        top = _TOP + number * _ROW_HEIGHT
        middle = top + _ROW_HEIGHT / 2 - 2
        parts += [
            f'<text x="{_LABEL_WIDTH - 8}" y="{middle + 5:.1f}" text-anchor="end">'
            f"{escape(bar.label)}</text>",
            f'<rect x="{_LABEL_WIDTH}" y="{top + 3}" width="{bar.bar * scale:.1f}" '
            f'height="{_ROW_HEIGHT - 10}" fill="{_BAR}"/>',
            f'<path d="M{x(bar.low)} {middle:.1f}H{x(bar.high)}" stroke="black"/>',
            f'<text x="{float(x(max(bar.high, bar.bar))) + 6:.1f}" y="{middle + 5:.1f}">'
            f"{bar.bar:.2f}</text>",
        ]
    if line is not None:
        parts.append(
            f'<path d="M{x(line)} {_TOP - 4}V{height - 8}" stroke="{_INK}" stroke-dasharray="4 3"/>'
        )
    return "\n".join([*parts, "</svg>", ""])

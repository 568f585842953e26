"""The charts of a batch's report as SVG text, which takes its colours from the page's style."""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_WIDTH, _HEIGHT = 880, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 18, 40
_NUM_TICKS = 5
_CLOCK_STEPS = (0.1, 0.5, *(1, 2, 5, 10, 15, 30), *(60 * n for n in (1, 2, 5, 10, 15, 30)))
_CLOCK_STEPS += tuple(3600 * n for n in (1, 2, 4, 8, 12))
NUM_COLOURS = 8
"""Of parts; the page's style has a class for each, `part0` to `part7`."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What happened between two moments."""

    start_seconds: float
    """From the start of the run, the time between two attempts left out."""
    seconds: float
    """Its length, above 0."""
    num_scored: float
    """Rows that succeeded; of a unit that took longer, its part of them."""
    num_failed: float


def throughput_chart(bars: Sequence[Bar], *, attempts: Sequence[tuple[float, str]]) -> str:
    """Draw rows a second over the time that the run took.

    Args:
        bars: In time order, without gaps; at least one.
        attempts: Where each attempt begins in seconds, and its name.
    """
    end = max(bar.start_seconds + bar.seconds for bar in bars)
    highest = max((bar.num_scored + bar.num_failed) / bar.seconds for bar in bars)
    y_ticks, x_ticks = ticks(highest), time_ticks(end)
    top = max(highest, y_ticks[-1])
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(seconds: float) -> float:
        return _LEFT + width * seconds / end

    def y(rate: float) -> float:
        return _TOP + height * (1 - rate / top) if top else _TOP + height

    parts = []
    for tick in y_ticks:
        parts.append(_line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), "level"))
        parts.append(_text(_LEFT - 6, y(tick) + 4, f"{tick:g}", "end"))
    parts.append(_text(_LEFT - 6, 10, "rows/s", "end"))
    parts += [_text(x(tick), _HEIGHT - 23, clock(tick), "middle") for tick in x_ticks]
    parts.append(_text(_LEFT + width / 2, _HEIGHT - 6, "time running", "middle"))
    for bar in bars:
        scored, failed = bar.num_scored / bar.seconds, bar.num_failed / bar.seconds
        left, right = x(bar.start_seconds), x(bar.start_seconds + bar.seconds)
        about = (
            f"{clock(bar.start_seconds)}: {scored:.3g} rows/s scored, {failed:.3g} rows/s failed"
        )
        for low, high, name in ((0.0, scored, "scored"), (scored, scored + failed, "failed")):
            if high > low:
                parts.append(_box(left, y(high), right - left, y(low) - y(high), name, about))
    for start, name in attempts[1:]:
        parts.append(_line(x(start), _TOP, x(start), _TOP + height, "attempt"))
        parts.append(_text(x(start) + 4, _TOP + 10, name, "start"))
    parts.append(_line(_LEFT, y(0), _WIDTH - _RIGHT, y(0), "axis"))
    return _svg(_HEIGHT, "Rows a second over the time that the run took", parts)


def share_chart(shares: Mapping[str, float]) -> str:
    """Draw parts of a whole as one bar.

    Args:
        shares: Part -> its amount; their sum is above 0.
    """
    whole = sum(shares.values())
    left, parts = 0.0, []
    for number, (name, amount) in enumerate(shares.items()):
        width = _WIDTH * amount / whole
        about = f"{name}: {amount / whole:.1%}"
        parts.append(_box(left, 0, width, 28, f"part{number % NUM_COLOURS}", about))
        left += width
    return _svg(28, "Shares of " + ", ".join(shares), parts)


def shown(text: str) -> str:
    """Return what others wrote as HTML shows it; what no page may hold as Python escapes it."""
    return html.escape(_CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text))


def ticks(highest: float) -> list[float]:
    """Return round numbers from 0 to at least `highest`: about five steps of 1, 2 or 5."""
    if not highest > 0:
        return [0.0]
    rough = highest / _NUM_TICKS
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


def time_ticks(longest: float) -> list[float]:
    """Return moments from 0 to `longest` that a clock shows in round numbers, at most eight."""
    days = (86_400 * 2**power for power in itertools.count())
    steps = itertools.chain(_CLOCK_STEPS, days)
    step = next(step for step in steps if longest / step <= _NUM_TICKS + 2)
    return [step * number for number in range(math.floor(longest / step) + 1)]


def clock(seconds: float) -> str:
    """Return `h:mm:ss`, or `m:ss` below an hour; tenths below ten seconds."""
    if 0 < seconds < 10 and seconds != round(seconds):
        return f"0:0{seconds:.1f}" if seconds < 9.95 else "0:10"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{shown(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _box(x: float, y: float, width: float, height: float, kind: str, about: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}">'
        f"<title>{shown(about)}</title></rect>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{shown(text)}</text>'

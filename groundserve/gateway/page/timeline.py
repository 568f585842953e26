"""The chart of scores and moments over time: options for ECharts, one row a question."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundserve.answers import AnswerResult, Moment
from groundserve.results import QueryResult, ScoreResult

COLORS = ("#0f9d94", "#e07a3f", "#6c7fe0", "#c2569a", "#8a9a2b", "#4aa3d8")
_GREY = "#808890"
_ROW, _GAP, _TOP, _FOOT = 92, 40, 30, 84
_LANE, _MAX_LANES = 24, 12
_CLOCK = "s => groundserve.clock(s)"


def chart_height(heights: list[int]) -> int:
    """Return the pixels of a chart whose rows have these."""
    return _TOP + sum(heights) + _GAP * (len(heights) - 1) + _FOOT


def score_chart(result: ScoreResult, span_threshold: float) -> tuple[dict[str, Any], int]:
    """Return the options of a chart of scores, and its height."""
    heights = [_ROW] * len(result.queries)
    options = _rows(result.info.duration_seconds, [one.query for one in result.queries], heights)
    for axis in options["yAxis"]:
        axis.update(max=1, interval=0.5)
    options["series"] = [
        series
        for row, query in enumerate(result.queries)
        for series in _score_series(result, query, row, span_threshold)
    ]
    return options, chart_height(heights)


def moment_chart(result: AnswerResult) -> tuple[dict[str, Any], int]:
    """Return the options of a chart of moments, and its height."""
    lanes = [_laid_out(answer.moments) for answer in result.answers]
    heights = [_LANE * max([lane + 1 for lane, _ in one], default=1) for one in lanes]
    names = [answer.query or answer.task for answer in result.answers]
    ends = [moment.end_seconds for answer in result.answers for moment in answer.moments]
    options = _rows(max([result.info.duration_seconds, *ends]), names, heights)
    for row, axis in enumerate(options["yAxis"]):
        axis.update(max=heights[row] / _LANE, inverse=True, axisLabel={"show": False})
        axis["splitLine"] = {"show": False}
    options["series"] = [
        {
            "id": f"moments{row}",
            "type": "line",
            "data": [],
            "xAxisIndex": row,
            "yAxisIndex": row,
            "markArea": {
                "silent": True,
                "data": [_box(lane, moment, COLORS[row % len(COLORS)]) for lane, moment in one],
            },
        }
        for row, one in enumerate(lanes)
    ]
    return options, chart_height(heights)


def _rows(seconds: float, names: list[str], heights: list[int]) -> dict[str, Any]:
    tops = [_TOP + sum(heights[:row]) + _GAP * row for row in range(len(heights))]
    last, rows = len(heights) - 1, range(len(heights))
    edge = {"left": 40, "right": 16}
    return {
        "animation": False,
        "backgroundColor": "transparent",
        "textStyle": {"fontFamily": "Roboto, sans-serif"},
        "title": [
            {
                "text": " ".join(name.split()) or "(empty question)",
                "left": 36,
                "top": top - 24,
                "textStyle": {
                    "fontSize": 13,
                    "fontWeight": 500,
                    "color": COLORS[row % len(COLORS)],
                    "overflow": "truncate",
                    "width": 700,
                },
            }
            for row, (name, top) in enumerate(zip(names, tops, strict=True))
        ],
        "grid": [
            {**edge, "top": top, "height": height}
            for top, height in zip(tops, heights, strict=True)
        ],
        "xAxis": [_time_axis(row, seconds, is_last=row == last) for row in rows],
        "yAxis": [_value_axis(row) for row in rows],
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
        "tooltip": {
            "trigger": "axis",
            "confine": True,
            "axisPointer": {"type": "line", "label": {":formatter": f"p => ({_CLOCK})(p.value)"}},
            ":formatter": "found => groundserve.tooltip(found)",
        },
        "dataZoom": [
            {
                "type": "inside",
                "xAxisIndex": list(rows),
                "zoomOnMouseWheel": "ctrl",
                "moveOnMouseMove": False,
                "moveOnMouseWheel": False,
            },
            {
                "type": "slider",
                "xAxisIndex": list(rows),
                "bottom": 12,
                "height": 22,
                **edge,
                "showDetail": False,
                "brushSelect": False,
                "showDataShadow": False,
                "borderColor": _GREY,
                "fillerColor": "rgba(15, 157, 148, 0.25)",
            },
        ],
    }


def _time_axis(row: int, seconds: float, *, is_last: bool) -> dict[str, Any]:
    return {
        "type": "value",
        "gridIndex": row,
        "min": 0,
        "max": max(seconds, 1e-3),
        "axisLabel": {
            "show": is_last,
            "color": _GREY,
            "hideOverlap": True,
            ":formatter": _CLOCK,
        },
        "axisLine": {"lineStyle": {"color": _GREY}},
        "axisTick": {"show": is_last},
        "splitLine": {"show": False},
    }


def _value_axis(row: int) -> dict[str, Any]:
    return {
        "type": "value",
        "gridIndex": row,
        "min": 0,
        "axisLabel": {"color": _GREY},
        "splitLine": {"lineStyle": {"color": _GREY, "opacity": 0.25}},
    }


def _score_series(
    result: ScoreResult, query: QueryResult, row: int, span_threshold: float
) -> list[dict[str, Any]]:
    color = COLORS[row % len(COLORS)]
    place = {"xAxisIndex": row, "yAxisIndex": row, "silent": True}
    chosen = np.isin(result.frame_indices, query.selected_frames)
    points = np.stack([result.pts_seconds, query.frame_scores.astype(np.float64)], 1).round(4)
    return [
        {
            "id": f"scores{row}",
            "type": "line",
            "data": points.tolist(),
            "showSymbol": False,
            "lineStyle": {"color": color, "width": 1.6},
            "itemStyle": {"color": color},
            "areaStyle": {"color": color, "opacity": 0.08},
            **place,
            "markArea": {
                "silent": True,
                "itemStyle": {"color": color, "opacity": 0.18},
                "data": [
                    [{"xAxis": span.start_seconds}, {"xAxis": span.end_seconds}]
                    for span in query.spans
                ],
            },
            "markLine": {
                "silent": True,
                "symbol": "none",
                "label": {"show": False},
                "lineStyle": {"color": _GREY, "type": "dashed"},
                "data": [{"yAxis": span_threshold}],
            },
        },
        {
            "id": f"selected{row}",
            "type": "scatter",
            "data": points[chosen].tolist(),
            "symbolSize": 7,
            "itemStyle": {"color": color, "borderColor": "#ffffff", "borderWidth": 1},
            **place,
        },
    ]


def _laid_out(moments: tuple[Moment, ...]) -> list[tuple[int, Moment]]:
    """Put moments into lanes in which none covers another; those beyond the last lane share it."""
    ends: list[float] = []
    placed = []
    for moment in moments:
        start, end = sorted((moment.start_seconds, moment.end_seconds))
        free = [lane for lane, until in enumerate(ends) if until <= start]
        lane = free[0] if free else min(len(ends), _MAX_LANES - 1)
        ends[lane : lane + 1] = [end]
        placed.append((lane, moment))
    return placed


def _box(lane: int, moment: Moment, color: str) -> list[dict[str, Any]]:
    start, end = sorted((moment.start_seconds, moment.end_seconds))
    strength = 0.35 if moment.score is None else 0.15 + 0.4 * min(max(moment.score / 5, 0), 1)
    return [
        {
            "name": moment.text,
            "xAxis": start,
            "yAxis": lane + 0.08,
            "itemStyle": {"color": color, "opacity": strength},
            "label": {"position": "insideLeft", "color": _GREY, "overflow": "truncate"},
        },
        {"xAxis": end, "yAxis": lane + 0.92},
    ]

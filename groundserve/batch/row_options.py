"""The options of a row, of either head: as one text and back, and what of them samples frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, TypeAlias

from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits
from groundserve.options import AnswerOptions, ScoreOptions, parse_answer_options, parse_options

RowOptions: TypeAlias = ScoreOptions | AnswerOptions
"""All of a run are of one kind: that of its engines' head."""

_PLAIN = ScoreOptions()
_AFTERWARDS = ("top_k", "selector")
"""Options of a score that decide nothing before there are scores."""


def option_names(kind: type[RowOptions]) -> tuple[str, ...]:
    """Return the names of a kind's options."""
    return tuple(field.name for field in fields(kind))


def parse_row_options(text: str, *, kind: type[RowOptions], limits: Limits) -> RowOptions:
    """Read options as a request has them."""
    if kind is ScoreOptions:
        return parse_options(text, limits=limits)
    options = parse_answer_options(text, limits=limits)
    check_repeatable(options)
    return options


def check_repeatable(options: RowOptions) -> None:
    """Refuse draws that nobody could repeat: rows of equal keys have one result."""
    if isinstance(options, AnswerOptions) and options.temperature and options.seed is None:
        raise InvalidRequestError("a temperature above 0 needs a seed in a batch, got none")


def read_options(values: Mapping[str, Any]) -> RowOptions:
    """Return the options that a run has written, as `options_json` or field by field."""
    if "task" not in values:
        return ScoreOptions(**values)
    clip = values.get("clip_seconds")
    return AnswerOptions(**{**values, "clip_seconds": None if clip is None else tuple(clip)})


@lru_cache(maxsize=1024)
def options_json(options: RowOptions) -> str:
    """Return the options as one text, the same for equal ones."""
    # A number may be 1 or 1.0, which are equal and have two texts.
    fixed: RowOptions
    if isinstance(options, ScoreOptions):
        fixed = replace(options, sample_fps=float(options.sample_fps))
    else:
        clip, top_p = options.clip_seconds, options.top_p
        fixed = replace(
            options,
            temperature=float(options.temperature),
            top_p=None if top_p is None else float(top_p),
            clip_seconds=None if clip is None else (float(clip[0]), float(clip[1])),
        )
    return json.dumps(json.loads(fixed.to_json()), sort_keys=True)


@lru_cache(maxsize=1024)
def sampling_json(options: RowOptions) -> str:
    """Return, as one text, the options that decide which frames are decoded and encoded."""
    if isinstance(options, ScoreOptions):
        plain = {name: getattr(_PLAIN, name) for name in _AFTERWARDS}
        return options_json(replace(options, **plain))
    seen = AnswerOptions(num_frames=options.num_frames, clip_seconds=options.clip_seconds)
    return options_json(seen)

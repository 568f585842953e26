"""Tables, plots and sentences of a Markdown page, drawn from JSON by what comments in the page say.

    <!-- table
    results: overload_cpu_*.json
    rows: loads
    offered: {@}
    answered: {accepted_per_second:.1f}/s
    -->
    (drawn; whatever stands here is replaced)
    <!-- end -->

`results` names files of `benchmarks/results`, of which the last by name counts. `rows` is the place
in the report's `results` whose entries are the rows ("." for `results` themselves; values that are
no objects are none), the other lines are the columns: a heading and a template. `columns` in place
of `rows` turns the table over, and a line `heading` then says what stands above an entry where that
is not its name. `only` names the entries that are shown, with commas between them. A star in a
place stands for every name there, and the entries' names then have all of them.

A template's fields are places below the entry, with `{@}` for its name and `{/...}` from the top of
the report; each may be scaled (`{seconds*1000:.0f}`) and has the format of Python's `format`. Of a
list of numbers the median is shown. A cell whose fields are all missing is empty.

    <!-- plot
    image: images/vs_reference.svg
    title: times faster
    results: ...
    rows: ratios
    bar: {median}
    low: {min}
    high: {max}
    line: 1
    -->

    <!-- text
    results: ...
    Of {results.capacity_per_second:.0f} requests a second ...
    -->

is a sentence, whose fields are places from the top of the report; all of them must be there, and of
a table's column one. Where there is no such file yet, the page says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._bars import Bar, draw_bars

NOT_MEASURED = "Not measured yet."
_BLOCK = re.compile(
    r"(?P<head><!-- (?P<kind>table|plot|text)\n(?P<spec>.*?)\n-->\n)"
    r"(?P<body>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)
_FIELD = re.compile(r"\{([^{}:*]+)(?:\*([0-9.e+-]+))?(?::([^{}]+))?\}")
_MISSING = ""


class SpecError(ValueError):
    """A comment in a page says something that cannot be drawn."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A page as it should be."""

    text: str
    """Of the page."""
    images: dict[str, str]
    """Path beside the page -> SVG."""
    num_blocks: int
    """Tables, plots and sentences in it."""


def draw_page(text: str, results: Path) -> Drawn:
    """Draw every block of a page anew.

    Args:
        text: The page.
        results: Folder of the JSON files.

    Raises:
        SpecError: A block lacks a line, or a place it names is not there or holds no entries, as
            after a benchmark has given its figures other names.
    """
    images: dict[str, str] = {}
    num_blocks = 0

    def redraw(found: re.Match[str]) -> str:
        nonlocal num_blocks
        num_blocks += 1
        head, _, sentence = found["spec"].partition("\n")
        spec = _parse(head if found["kind"] == "text" else found["spec"])
        path = _last_file(results, _take(spec, "results"))
        if found["kind"] == "text":
            body = _text(sentence, path)
        elif found["kind"] == "table":
            body = _table(spec, path)
        else:
            name = _take(spec, "image")
            body, image = _plot(spec, path, name)
            if image is not None:
                images[name] = image
        return f"{found['head']}{body}\n{found['end']}"

    return Drawn(text=_BLOCK.sub(redraw, text), images=images, num_blocks=num_blocks)


def fill(template: str, report: Mapping[str, Any], name: str, entry: Any) -> str:
    """Return a template with the fields of one entry.

    Raises:
        SpecError: A field's format does not fit its value.
    """

    def value(found: re.Match[str]) -> str:
        place, factor, form = found[1], found[2], found[3] or ""
        if place == "@":
            return name
        at = look_up(report, place[1:]) if place.startswith("/") else look_up(entry, place)
        if at is None:
            return _MISSING
        if isinstance(at, list):
            at = median(at)
        try:
            return format(at * float(factor) if factor else at, form)
        except (TypeError, ValueError) as error:
            raise SpecError(f"{found[0]} does not fit {at!r}: {error}") from error

    cell = _FIELD.sub(value, template)
    # What stands around fields is nothing without any of them.
    has_fields = _FIELD.search(template) is not None
    lacks_all = has_fields and all(value(found) == _MISSING for found in _FIELD.finditer(template))
    return _MISSING if lacks_all else cell


def look_up(value: Any, place: str) -> Any:
    """Follow the names in a place, and numbers in lists; None where one is missing.

    "." is the value itself.
    """
    for step in () if place == "." else place.split("."):
        if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict):
            value = value.get(step)
        else:
            return None
    return value


def _parse(spec: str) -> dict[str, str]:
    lines = {}
    for line in spec.splitlines():
        key, colon, value = line.partition(": ")
        if not colon:
            raise SpecError(f"a line of a drawn block must be 'NAME: VALUE', got {line!r}")
        if key.strip() in lines:
            raise SpecError(f"a drawn block has two lines {key.strip()!r}")
        lines[key.strip()] = value.strip()
    return lines


def _take(spec: dict[str, str], key: str) -> str:
    if key not in spec:
        raise SpecError(f"a drawn block needs a line '{key}: ...', got {', '.join(spec)}")
    return spec.pop(key)


def _last_file(results: Path, pattern: str) -> Path | None:
    return max(results.glob(pattern), default=None)


def _entries(spec: dict[str, str], report: Mapping[str, Any], key: str) -> dict[str, Any]:
    place = _take(spec, key)
    steps = [] if place == "." else place.split(".")
    entries = dict(_expand(report["results"], [*steps, "*"], ()))
    if not entries:
        raise SpecError(f"{place!r} holds no entries in this report's results")
    if "only" in spec:
        names = [name.strip() for name in _take(spec, "only").split(",")]
        entries = {name: entries[name] for name in names if name in entries}
    return entries


def _expand(value: Any, steps: list[str], names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not steps:
        if isinstance(value, dict):
            yield ", ".join(names), value
    elif steps[0] == "*":
        items = enumerate(value) if isinstance(value, list) else ()
        for name, below in value.items() if isinstance(value, dict) else items:
            yield from _expand(below, steps[1:], (*names, str(name)))
    else:
        yield from _expand(look_up(value, steps[0]), steps[1:], names)


def _table(spec: dict[str, str], path: Path | None) -> str:
    if path is None:
        return NOT_MEASURED
    report = json.loads(path.read_text("utf-8"))
    is_turned = "columns" in spec
    entries = _entries(spec, report, "columns" if is_turned else "rows")
    heading = spec.pop("heading", "{@}") if is_turned else None
    lines = [
        [name, *(fill(template, report, key, entry) for key, entry in entries.items())]
        for name, template in spec.items()
    ]
    for name, *cells in lines:
        if _FIELD.search(spec[name]) and not any(cells):
            raise SpecError(f"{path.name} has nothing of {spec[name]!r}, the column {name!r}")
    if heading is None:
        rows = [list(row) for row in zip(*lines, strict=True)]
    else:
        above = [fill(heading, report, key, entry) for key, entry in entries.items()]
        rows = [["", *above], *lines]
    drawn = [f"| {' | '.join(row)} |" for row in rows]
    drawn.insert(1, f"|{' --- |' * len(rows[0])}")
    return "\n".join([*drawn, "", _source(path, report)])


def _text(template: str, path: Path | None) -> str:
    if path is None:
        return NOT_MEASURED
    report = json.loads(path.read_text("utf-8"))
    for found in _FIELD.finditer(template):
        if look_up(report, found[1]) is None:
            raise SpecError(f"{path.name} has nothing at {found[1]!r}")
    return fill(template, report, "", report)


def _plot(spec: dict[str, str], path: Path | None, image: str) -> tuple[str, str | None]:
    title = _take(spec, "title")
    if path is None:
        return NOT_MEASURED, None
    report = json.loads(path.read_text("utf-8"))
    line = spec.pop("line", None)
    templates = {part: _take(spec, part) for part in ("bar", "low", "high")}
    bars = []
    for name, entry in _entries(spec, report, "rows").items():
        texts = {part: fill(template, report, name, entry) for part, template in templates.items()}
        # An entry that lacks one of them was not measured.
        if all(texts.values()):
            bars.append(Bar(label=name, **{part: float(text) for part, text in texts.items()}))
    drawn = draw_bars(title, bars, line=float(line) if line else None)
    return f"![{title}]({image})", drawn


def _source(path: Path, report: Mapping[str, Any]) -> str:
    date = str(report.get("date", "")).partition("T")[0]
    return f"`benchmarks/results/{path.name}`: commit {report.get('commit')}, {date}."

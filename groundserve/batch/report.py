"""The report of a batch: one HTML file that needs nothing else, made from the run directory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from groundserve.batch.report_charts import (
    NUM_COLOURS,
    clock,
    share_chart,
    shown,
    throughput_chart,
)
from groundserve.batch.report_facts import ReportFacts
from groundserve.batch.report_style import STYLE

_HOUR = 3600.0
_HASH = re.compile("[0-9a-f]{64}")


def render_report(facts: ReportFacts, *, made: str) -> str:
    """Return the report as one HTML page: no script, nothing to fetch, light and dark."""
    sections = [
        _tiles(facts),
        _failures(facts),
        _throughput(facts),
        _stages(facts),
        _workers(facts),
        _slowest(facts),
        _attempts(facts),
        _settings(facts),
    ]
    state = "done" if facts.is_complete else "open"
    note = f"<p>Note: {shown(facts.checkpoint_note)}</p>\n" if facts.checkpoint_note else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Batch run {shown(facts.place)}</title>\n<style>{STYLE}</style>\n</head>\n"
        "<body>\n<main>\n<header>\n<h1>Batch run</h1>\n"
        f'<p><code>{shown(facts.place)}</code> <span class="state {state}">'
        f"{shown(facts.state)}</span></p>\n{note}</header>\n"
        + "\n".join(section for section in sections if section)
        + f"\n<footer>Made {shown(made)} by groundserve from the run directory alone; again "
        "with: <code>groundserve batch status DIR --report</code></footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def _tiles(facts: ReportFacts) -> str:
    tiles = [
        ("rows", f"{facts.num_rows:,}", ""),
        ("scored", f"{facts.num_scored:,}", _share(facts.num_scored, facts.num_rows)),
        ("failed", f"{facts.num_failed:,}", _share(facts.num_failed, facts.num_rows)),
        ("video hours scored", f"{facts.video_seconds / _HOUR:,.4g}", ""),
        ("running", clock(facts.running_seconds), _count(len(facts.attempts), "attempt")),
    ]
    if facts.running_seconds:
        rows = (facts.num_scored + facts.num_failed) / facts.running_seconds
        rate = facts.video_seconds / facts.running_seconds
        tiles.append(("rows a second", f"{rows:.3g}", "start-up and all attempts included"))
        tiles.append(("video hours an hour", f"{rate:,.3g}", f"{rate / _HOUR:.2g} a second"))
    if (cost := facts.cost_per_1000_video_hours) is not None:
        about = f"at {facts.price_per_hour:g} an hour for all machines together"
        tiles.append(("cost of 1,000 video hours", f"{cost:,.4g}", about))
    items = "".join(
        f"<div><dt>{name}</dt><dd>{value}<small>{shown(about)}</small></dd></div>"
        for name, value, about in tiles
    )
    return f'<dl class="tiles">{items}</dl>'


def _failures(facts: ReportFacts) -> str:
    if not facts.failures:
        return _section("Failures", "<p>None.</p>")
    rows = []
    for failure in facts.failures:
        rest = failure.num_rows - len(failure.first)
        messages = [
            f"<li>{_row_name(row_id, video)}<br>{shown(message)}</li>"
            for row_id, video, message in failure.first
        ]
        more = [f"<li>and {rest:,} more</li>"] if rest > 0 else []
        listed = f"<ul>{''.join(messages + more)}</ul>"
        rows.append((f"<code>{shown(failure.kind)}</code>", f"{failure.num_rows:,}", listed))
    return _section("Failures", _table(("kind", "rows", "the first"), rows, numbers={1}))


def _row_name(row_id: str, video: str) -> str:
    """Return a row's id and video; of a row without an id of its own, which has a hash, one."""
    names = [f"<code>{shown(video)}</code>"] if video else []
    if not _HASH.fullmatch(row_id):
        names.insert(0, f"<b>{shown(row_id)}</b>")
    return " ".join(names)


def _throughput(facts: ReportFacts) -> str:
    if not facts.bars:
        return ""
    legend = _legend([("scored", "scored"), ("failed", "failed")])
    chart = throughput_chart(facts.bars, attempts=facts.attempt_starts)
    return _section("Throughput", f"<figure>{chart}{legend}</figure>")


def _stages(facts: ReportFacts) -> str:
    shares = {name: seconds for name, seconds in facts.stage_seconds.items() if seconds > 0}
    whole = sum(shares.values())
    if not whole:
        return ""
    rows = [
        (
            f'<span class="key part{number % NUM_COLOURS}"></span>{shown(name)}',
            f"{seconds:,.3g}",
            f"{seconds / whole:.1%}",
        )
        for number, (name, seconds) in enumerate(shares.items())
    ]
    table = _table(("stage", "seconds in all workers", "share"), rows, numbers={1, 2})
    return _section("Stages", f"<figure>{share_chart(shares)}</figure>{table}")


def _workers(facts: ReportFacts) -> str:
    rows = [
        (
            shown(one.host),
            str(one.pid),
            f"{one.num_rows:,}",
            f"{one.video_seconds / _HOUR:,.3g}",
            clock(one.busy_seconds),
        )
        for one in facts.workers
    ]
    heads = ("host", "process", "rows", "video hours", "busy")
    return _section("Workers", _table(heads, rows, numbers={1, 2, 3, 4})) if rows else ""


def _slowest(facts: ReportFacts) -> str:
    rows = [
        (
            f"<code>{shown(one.video)}</code>",
            clock(one.seconds),
            f"{one.num_rows:,}",
            clock(one.video_seconds) if one.video_seconds else "",
        )
        for one in facts.slowest
    ]
    heads = ("video", "took", "rows", "duration")
    return _section("Slowest videos", _table(heads, rows, numbers={1, 2, 3})) if rows else ""


def _attempts(facts: ReportFacts) -> str:
    rows = [
        (
            str(one.number),
            shown(one.started),
            shown(one.host),
            clock(one.seconds),
            f"{one.num_scored:,}",
            f"{one.num_failed:,}",
            shown(one.end),
        )
        for one in facts.attempts
    ]
    heads = ("attempt", "started (UTC)", "host", "ran", "scored", "failed", "end")
    return _section("Attempts", _table(heads, rows, numbers={3, 4, 5})) if rows else ""


def _settings(facts: ReportFacts) -> str:
    rows = [
        (f"<code>{shown(name)}</code>", f"<code>{shown(str(value))}</code>")
        for name, value in _flat(facts.settings)
    ]
    heads = ("name", "value")
    return _section("What decides the results", _table(heads, rows)) if rows else ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()
) -> str:
    """Return a table of cells that are HTML already; columns of `numbers` are set to the right."""
    right = set(numbers)

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="number">{text}</{tag}>' if place in right else f"<{tag}>{text}</{tag}>"
            for place, text in enumerate(texts)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{cells("th", heads)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _legend(keys: Iterable[tuple[str, str]]) -> str:
    items = "".join(f'<span><span class="key {kind}"></span>{name}</span>' for kind, name in keys)
    return f"<figcaption>{items}</figcaption>"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

"""The report of a batch: one HTML file that needs nothing else, made from the run directory."""

from __future__ import annotations

import io
import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from groundserve import extras
from groundserve.batch.report_facts import Bar, ReportFacts, gather_facts
from groundserve.batch.status import read_status
from groundserve.storage import open_storage

REPORT_NAME = "report.html"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What no page may hold."""
_HASH = re.compile("[0-9a-f]{64}")
"""The id of a row that has none of its own."""
_DAY = 86_400.0
_STATES = {"silent": "silent for long", "stopped": "stopped before its end"}


Tile: TypeAlias = tuple[str, str, str]
"""The name of a figure, its value, and what there is to say of it."""


def write_report(
    place: str, *, price_per_hour: float | None = None, more: Sequence[Tile] = ()
) -> str:
    """Write DIR/report.html from what is in DIR, of a run that goes on, is dead or done.

    Args:
        place: The run directory.
        price_per_hour: Of all machines of the job together; None: no cost is told.
        more: Figures beside those of every batch.

    Returns:
        The report's place.

    Raises:
        InvalidRequestError: See `read_status`.
        RunDirectoryError: It cannot be written.
    """
    page = make_report(place, price_per_hour=price_per_hour, more=more)
    storage = open_storage(place)
    storage.write(REPORT_NAME, page.encode("utf-8"))
    return f"{storage.place}/{REPORT_NAME}"


def make_report(
    place: str, *, price_per_hour: float | None = None, more: Sequence[Tile] = ()
) -> str:
    """Return what `write_report` writes."""
    status = read_status(place)
    facts = gather_facts(open_storage(place), status, price_per_hour=price_per_hour)
    return render_report(facts, made=_utc(time.time()), more=more)


def page_environment() -> Any:
    """Return jinja2's environment for pages that show what others wrote."""
    jinja2 = extras.load("jinja2", "batch")
    return jinja2.Environment(autoescape=True, finalize=_printable, trim_blocks=True)


def render_report(facts: ReportFacts, *, made: str, more: Sequence[Tile] = ()) -> str:
    """Return the report as one HTML page: no script, nothing to fetch, light and dark."""
    jinja2, environment = extras.load("jinja2", "batch"), page_environment()
    environment.filters |= {"clock": clock, "utc": _utc}
    environment.tests["hash"] = lambda text: _HASH.fullmatch(text) is not None
    template = environment.from_string(Path(__file__).with_name("report.html").read_text("utf-8"))
    status = facts.status
    stages = sorted(facts.stages.items(), key=lambda stage: -stage[1])
    shares = [(name, seconds) for name, seconds in stages if seconds > 0]
    whole = sum(seconds for _, seconds in shares)
    page: str = template.render(
        facts=facts,
        made=made,
        state=_STATES.get(status.state, status.state),
        tiles=[*_tiles(facts), *more],
        failures=[
            (kind, number, facts.first_failures.get(kind, []))
            for kind, number in sorted(status.failures.items(), key=lambda it: (-it[1], it[0]))
        ],
        chart=jinja2.utils.markupsafe.Markup(_throughput_chart(facts)) if facts.bars else "",
        stages=[(name, seconds, seconds / whole) for name, seconds in shares],
        workers=[worker for _, worker in sorted(facts.workers.items())],
        settings=list(_flat({"manifest": status.manifest, **(status.fingerprint or {})})),
    )
    return page


def clock(seconds: float) -> str:
    """Return `h:mm:ss`, or `m:ss` below an hour; tenths below ten seconds."""
    if 0 < seconds < 10 and seconds != round(seconds):
        return f"0:0{seconds:.1f}" if seconds < 9.95 else "0:10"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _tiles(facts: ReportFacts) -> Iterator[Tile]:
    status = facts.status
    num_rows = status.num_rows or 0
    yield "rows", f"{num_rows:,}", ""
    for name, number in (("scored", status.num_done), ("failed", status.num_failed)):
        yield name, f"{number:,}", f"{number / num_rows:.1%}" if num_rows else ""
    yield "video hours scored", f"{facts.video_seconds / 3600:,.4g}", ""
    count = len(facts.attempts)
    yield "running", clock(facts.running_seconds), f"{count} attempt{'' if count == 1 else 's'}"
    if facts.running_seconds:
        rows = (status.num_done + status.num_failed) / facts.running_seconds
        rate = facts.video_seconds / facts.running_seconds
        yield "rows a second", f"{rows:.3g}", "start-up and all attempts included"
        yield "video hours an hour", f"{rate:,.3g}", f"{rate / 3600:.2g} a second"
    if (cost := facts.cost_per_1000_video_hours) is not None:
        about = f"at {facts.price_per_hour:g} an hour for all machines together"
        yield "cost of 1,000 video hours", f"{cost:,.4g}", about


def _throughput_chart(facts: ReportFacts) -> str:
    """Draw rows a second over the time that the run took, without pauses, as SVG."""
    matplotlib = extras.load("matplotlib", "batch")
    dates = extras.load("matplotlib.dates", "batch")
    figures = extras.load("matplotlib.figure", "batch")
    end = max(bar.start_seconds + bar.seconds for bar in facts.bars)
    highest = max((bar.num_scored + bar.num_failed) / bar.seconds for bar in facts.bars)
    rates = dates.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, highest or 1)
    # The first day of dates stands for the time that a run took: it has round hours and minutes.
    locator = dates.AutoDateLocator(minticks=4, maxticks=8)
    days = locator.tick_values(dates.num2date(0), dates.num2date(end / _DAY))
    times = [day * _DAY for day in days if 0 <= day * _DAY <= end]
    # The id of an object in the SVG is made its class, and what it tells under the pointer.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "groundserve", "font.size": 12}
    with matplotlib.rc_context(settings):
        figure = figures.Figure(figsize=(880 / 72, 240 / 72), dpi=72)
        axes = figure.add_axes((52 / 880, 40 / 240, 816 / 880, 182 / 240), frameon=False)
        axes.set(xlim=(0, end), ylim=(0, rates[-1]))
        axes.set_xlabel("time running", labelpad=3)
        axes.set_xticks(times, [clock(seconds) for seconds in times])
        axes.set_yticks(rates, [f"{rate:g}" for rate in rates])
        axes.tick_params("x", length=0, pad=9)
        axes.tick_params("y", length=0, pad=6)
        axes.text(-6 / 816, 192 / 182, "rows/s", ha="right", transform=axes.transAxes)
        axes.hlines(rates, 0, end, linewidth=1, clip_on=False, zorder=0, gid="level|")
        for bar in facts.bars:
            _draw_bar(axes, bar)
        axes.hlines(0, 0, end, linewidth=1, clip_on=False, gid="axis|")
        starts = itertools.accumulate(one.seconds for one in facts.attempts)
        for one, start in zip(facts.attempts[1:], starts, strict=False):
            line = axes.vlines(start, 0, rates[-1], linewidth=1, clip_on=False, gid="attempt|")
            line.set_linestyle((0, (4, 4)))
            axes.annotate(
                f"attempt {one.number}", (start, rates[-1]), (4, -10), textcoords="offset points"
            )
        figure.savefig(file := io.StringIO(), format="svg", transparent=True)
    return _for_the_page(file.getvalue())


def _draw_bar(axes: Any, bar: Bar) -> None:
    scored, failed = bar.num_scored / bar.seconds, bar.num_failed / bar.seconds
    about = f"{clock(bar.start_seconds)}: {scored:.3g} rows/s scored, {failed:.3g} rows/s failed"
    for kind, height, bottom in (("scored", scored, 0.0), ("failed", failed, scored)):
        if height > 0:
            (box,) = axes.bar(
                bar.start_seconds, height, bar.seconds, bottom, align="edge", clip_on=False
            )
            box.set_gid(f"{kind}|{about}")


def _for_the_page(svg: str) -> str:
    """Return the body of matplotlib's file: its colours, fonts and names are those of the page."""
    body = re.sub("<defs>.*?</defs>", "", svg[svg.index("<g ") :], flags=re.DOTALL)
    body = re.sub(r' id="(\w+)\|([^"]*)">', r' class="\1"><title>\2</title>', body)
    body = re.sub('font: [^;"]*;? ?', "", re.sub(r' id="\w*"', "", body))
    label = "Rows a second over the time that the run took"
    return f'<svg viewBox="0 0 880 240" role="img" aria-label="{label}">{body}'


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _printable(value: Any) -> Any:
    """Return text that others wrote as a page may hold it: controls as Python escapes them."""
    if type(value) is not str:
        return value
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], value)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))

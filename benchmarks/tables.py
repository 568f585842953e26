"""Draw the tables of README.md, docs/benchmarks.md and docs/capacity.md from benchmarks/results.

python -m benchmarks.tables [--check]

A table stands between `<!-- table KIND results_*.json -->` and `<!-- end -->`, where KIND is one of
`TABLES` and the last file by name counts. `--check` writes nothing and ends with 1 where a page is
not what the JSON says.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
PAGES = (
    REPOSITORY / "README.md",
    REPOSITORY / "docs" / "benchmarks.md",
    REPOSITORY / "docs" / "capacity.md",
)
RESULTS = REPOSITORY / "benchmarks" / "results"
_BLOCK = re.compile(r"(<!-- table (\w+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
Rows = Iterator[list[str]]
"""The heading first."""


def vs_reference(results: dict[str, Any]) -> Rows:
    """Yield a row for each ratio."""
    yield [
        "question",
        "times faster (all pairs)",
        "in processor seconds",
        "if PyTorch reached the peak",
        "reference",
        "ours",
        "floor",
        "share of the floor, reference and ours",
    ]
    for name, row in results["ratios"].items():
        reference, ours = row["reference"], row["ours"]
        yield [
            f"`{name}`",
            f"**{row['median']:.2f}** ({row['min']:.2f} to {row['max']:.2f})",
            f"{row['cpu_seconds']['median']:.2f}",
            f"{row['if_pytorch_reached_the_peak']['median']:.2f}",
            f"{reference['wall_seconds']:.2f} s",
            f"{ours['wall_seconds']:.2f} s",
            f"{row['floor_seconds']:.2f} s",
            f"{reference['whole_share_of_floor']:.0%}, {ours['whole_share_of_floor']:.0%}",
        ]


def stages(results: dict[str, Any]) -> Rows:
    """Yield a row for each stage."""
    yield ["stage", "time", "processor", "floor", "share of the floor"]
    for name, row in results["stages"].items():
        floor = row["floor_seconds"]
        yield [
            name,
            f"{row['wall_seconds']['median'] * 1000:,.1f} ms",
            f"{row['cpu_seconds'] * 1000:,.0f} ms",
            "" if floor is None else f"{floor * 1000:,.2f} ms",
            "" if floor is None else f"{row['share_of_floor']:.0%}",
        ]


def capacity(results: dict[str, Any]) -> Rows:
    """Yield a row for each stage, and two for all that a first and a further question take."""
    yield ["stage", "core seconds a video", "videos an hour, a core"]
    seconds = {name: row["cpu_seconds"] for name, row in results["stages"].items()}
    further = sum(seconds[name] for name in ("ground", "select"))
    for name, one in [*seconds.items(), ("**all**", sum(seconds.values()))]:
        yield [name, f"{one:.3f}", f"{3600 / one:,.0f}"]
    yield ["**a further question**", f"{further:.3f}", f"{3600 / further:,.0f}"]


def capacity_gpu(results: dict[str, Any]) -> Rows:
    """Yield a row for each length of a video."""
    yield ["video", "frames", "GPU seconds", "videos an hour, a GPU", "bound by"]
    for name, row in results["by_duration"].items():
        seconds = row["seconds"]
        rate, bound = f"{3600 / seconds:,.0f}", row["largest_stage"]
        yield [name, f"{row['frames']}", f"{seconds:.2f}", rate, bound]


TABLES: dict[str, Callable[[dict[str, Any]], Rows]] = {
    "vs_reference": vs_reference,
    "stages": stages,
    "capacity": capacity,
    "capacity_gpu": capacity_gpu,
}


def draw(page: str, results: Path) -> str:
    """Return a page with its tables drawn anew from a folder of JSON files."""

    def table(block: re.Match[str]) -> str:
        path = max(results.glob(block[3]))
        report = json.loads(path.read_text("utf-8"))
        rows = [f"| {' | '.join(row)} |" for row in TABLES[block[2]](report["results"])]
        rows.insert(1, "|" + " --- |" * (rows[0].count("|") - 1))
        machine = report["machine"]
        source = f"{machine['cpu_model']}, {machine['cores_available']} cores; `{path.name}`."
        return "\n".join([block[1] + rows[0], *rows[1:], "", source, block[4]])

    # The kind and the pattern are groups of the opening comment.
    return _BLOCK.sub(table, page)


def main() -> None:
    """Draw, or look whether all is drawn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    is_check = parser.parse_args().check
    for path in PAGES:
        old = path.read_text("utf-8")
        new = draw(old, RESULTS)
        if new != old and is_check:
            raise SystemExit(f"{path.name} is not as benchmarks/results says; draw it anew")
        path.write_text(new, "utf-8")


if __name__ == "__main__":
    main()

"""Draw the tables of README.md and docs/benchmarks.md from benchmarks/results.

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
PAGES = (REPOSITORY / "README.md", REPOSITORY / "docs" / "benchmarks.md")
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


TABLES: dict[str, Callable[[dict[str, Any]], Rows]] = {
    "vs_reference": vs_reference,
    "stages": stages,
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

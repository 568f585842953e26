"""Draw the tables and plots of the documentation from benchmarks/results.

python -m benchmarks.tables [--check]

What is drawn where stands in comments of the pages themselves; see `benchmarks._drawn`. `--check`
writes nothing and fails where a page or an image is not what the JSON says.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks._drawn import draw_page

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"


def pages() -> list[Path]:
    """Return every page that may hold blocks."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def wanted_files(page: Path, results: Path) -> dict[Path, str]:
    """Return a page and its images as they should be; nothing for a page without blocks."""
    drawn = draw_page(page.read_text("utf-8"), results)
    if not drawn.num_blocks:
        return {}
    images = {page.parent / name: image for name, image in drawn.images.items()}
    return {page: drawn.text, **images}


def main(arguments: list[str] | None = None) -> None:
    """Draw, or look whether all is drawn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args(arguments)
    wanted = {path: text for page in pages() for path, text in wanted_files(page, RESULTS).items()}
    old = [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    names = [str(path.relative_to(REPOSITORY)) for path in old]
    if args.check and old:
        print(f"not as benchmarks/results says: {', '.join(names)}", file=sys.stderr)
        print("draw with: python -m benchmarks.tables", file=sys.stderr)
        raise SystemExit(1)
    if not args.check:
        for path in old:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], "utf-8")
            print(f"wrote {path.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()

"""Take the pictures of docs/page.md: the page in front of a server with the shipped checkpoint.

    python scripts/page_screenshots.py --engines DIR

It needs Debian's chromium. DIR is what `groundserve build --checkpoint digits --out DIR` wrote.
"""

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).parent.parent / "docs" / "images"
SIZES = {360: 780, 1440: 1000}
QUALITY = 80


def save(page: Page, name: str, *, is_whole: bool) -> None:
    """Save what a page shows as WebP."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=is_whole)))
    picture.convert("RGB").save(OUT / f"page_{name}.webp", quality=QUALITY, method=6)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, required=True)
    engines = parser.parse_args().engines
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        words = ["--engines", engines, "--gateway", 0, "--grpc-port", 0, "--metrics-port", 0]
        words += ["--spool", f"{folder}/spool", "--log-file", f"{folder}/log", "--json"]
        program = Path(sys.executable).parent / "groundserve"
        server = subprocess.Popen([program, "serve", *map(str, words)], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["gateway"]
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox"]
            )
            for scheme in ("light", "dark"):
                context = browser.new_context(color_scheme=scheme)
                page = context.new_page()
                page.goto(url)
                page.get_by_role("button", name="Try the drawn video").click()
                page.locator(".timeline canvas").wait_for()
                for width, height in SIZES.items():
                    page.set_viewport_size({"width": width, "height": height})
                    page.goto(page.url)
                    page.wait_for_function(
                        "[...document.querySelectorAll('.frame img')].length > 0 && "
                        "[...document.images].every(one => one.closest('.still') || "
                        "one.naturalWidth > 1) && "
                        "(video => video.readyState === 4 && !video.seeking && video.currentTime)"
                        "(document.querySelector('video'))"
                    )
                    page.evaluate("scrollTo(0, 0)")
                    page.wait_for_timeout(500)
                    save(page, f"result_{width}_{scheme}", is_whole=True)
                page.get_by_role("link", name="Ask", exact=True).click()
                for width, height in SIZES.items():
                    page.set_viewport_size({"width": width, "height": height})
                    page.get_by_role("heading", name="Your results").wait_for()
                    save(page, f"ask_{width}_{scheme}", is_whole=width == min(SIZES))
                context.close()
        finally:
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()

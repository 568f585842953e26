"""How long the gateway's page takes to draw a result and to seek, alone and for many browsers.

    python -m benchmarks.page --url http://127.0.0.1:8080 --video long.mp4 --out result.json

Asks one question about the video and opens the result, in Debian's chromium on this machine; then
several browsers open it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

from benchmarks._report import describe_video, spread, write_report

_DRAWN = """() => {
    const chart = getElement(+document.querySelector('.timeline')?.id.slice(1))?.chart;
    const isDrawn = chart?.getOption()?.series?.[0]?.data?.length;
    return isDrawn && document.querySelector('.playhead');
}"""
_SEEK = """async share => {
    const box = document.querySelector('.timeline'), place = box.getBoundingClientRect();
    const chart = getElement(+box.id.slice(1)).chart, video = document.querySelector('video');
    const at = [share * video.duration, 0.5], axes = {xAxisIndex: 0, yAxisIndex: 0};
    const [x, y] = chart.convertToPixel(axes, at);
    const started = performance.now();
    const sought = new Promise(done => video.addEventListener('seeked', done, {once: true}));
    const where = {clientX: place.left + x, clientY: place.top + y, bubbles: true};
    box.dispatchEvent(new PointerEvent('pointerdown', where));
    window.dispatchEvent(new PointerEvent('pointerup', where));
    await sought;
    return (performance.now() - started) / 1000;
}"""
_SHARES = (0.1, 0.9, 0.5, 0.25, 0.75)


async def ask(page: Page, url: str, video: Path) -> None:
    """Ask a question of a video, and wait for the answer."""
    await page.goto(url)
    await page.get_by_label("Video file").set_input_files(video)
    await page.locator(".chosen").wait_for(timeout=0)
    await page.get_by_label("One question a line").fill("When?")
    await page.get_by_role("button", name="Ask", exact=True).click()
    await page.locator(".timeline canvas").wait_for(timeout=0)


async def drawn_seconds(browser: Browser, url: str) -> float:
    """Return how long a browser that has been here before needs from a click to the timeline."""
    context = await browser.new_context()
    page = await context.new_page()
    for _ in range(2):  # the first time it loads the scripts, which it keeps
        started = time.perf_counter()
        await page.goto(url, timeout=0)
        await page.wait_for_function(_DRAWN, timeout=0)
        seconds = time.perf_counter() - started
    await context.close()
    return seconds


async def measure(url: str, video: Path, num_browsers: int) -> dict[str, Any]:
    """Return seconds of each thing."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = await browser.new_page()
        await ask(page, url, video)
        await page.wait_for_function("document.querySelector('video').readyState > 1", timeout=0)
        seeks = [await page.evaluate(_SEEK, share) for share in _SHARES]
        result = page.url
        await page.close()
        alone = [await drawn_seconds(browser, result) for _ in range(5)]
        together = await asyncio.gather(
            *(drawn_seconds(browser, result) for _ in range(num_browsers))
        )
    return {
        "seek_seconds": spread(seeks),
        "drawn_seconds": spread(alone),
        f"drawn_seconds_of_{num_browsers}_at_once": spread(together),
    }


def main() -> None:
    """Measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--num-browsers", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results = asyncio.run(measure(given.url, given.video, given.num_browsers))
    inputs = [describe_video(given.video)]
    write_report(given.out, "how fast is the page", results, inputs=inputs)


if __name__ == "__main__":
    main()

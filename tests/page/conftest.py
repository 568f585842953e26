"""The page in Debian's Chromium, in front of a gateway and servers as programs of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from groundserve.serving.processes import ending_with_parent
from tests.triton.program import Serve, serving
from tests.unit.batch import making
from tests.unit.gateway.conftest import wait_until
from train.digits.dataset import write_grounding_set

GATEWAY = ["-I", "-c", "from groundserve.cli.main import main; main()", "gateway", "--json"]
WAIT_MS = 30_000


@pytest.fixture(scope="module")  # meanwhile its event loop runs in this thread, and no other can
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("chromium is missing; run: apt-get install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """The folder in which gateways have their spools, below which servers may read."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="session")
def digits(root) -> Path:
    """A drawn video, and `records.json` with what is asked about it."""
    return write_grounding_set(root / "digits", split="test", seed=11, num_videos=1).parent


@pytest.fixture(scope="session")
def video(digits) -> Path:
    return digits / "videos" / "00000.mp4"


@pytest.fixture(scope="session")
def servers(engines_of, answer_engines, root, tmp_path_factory) -> Iterator[list[Serve]]:
    """One that scores frames with the shipped checkpoint, and one that answers in text."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                serving(engines, tmp_path_factory.mktemp("server"), options=["--allow-root", root])
            )
            for engines in (engines_of(SHIPPED_CHECKPOINT, "cpu"), answer_engines("stage3"))
        ]


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory) -> Path:
    """A batch run of six rows, of which two failed."""
    folder = tmp_path_factory.mktemp("batch")
    rows = making.make_corpus(folder / "corpus", 2, 3)
    making.run(folder / "my run", rows, fails=lambda query: query == "q1")
    return folder / "my run"


@contextmanager
def gateway(servers: list[Serve], spool: Path, *options: object) -> Iterator[str]:
    """Run a gateway in front of servers; yields its URL once all of them are ready."""
    words = [word for one in servers for word in ("--upstream", one.addresses["grpc"])]
    words += ["--spool", str(spool), "--port", "0", *map(str, options)]
    with (spool.with_suffix(".log")).open("wb") as log:
        program = subprocess.Popen(
            ending_with_parent([sys.executable, *GATEWAY, *words]),
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        url = json.loads(program.stdout.readline())["gateway"]
        wait_until(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
        yield url
    finally:
        program.terminate()
        program.wait(60)
        program.stdout.close()


@pytest.fixture(scope="session")
def url(servers, root, run_dir) -> Iterator[str]:
    """A gateway without keys, which may fetch from this host and has run directories."""
    options = ["--allow-host", "http://127.0.0.1:*", "--allow-network", "127.0.0.0/8"]
    options += ["--batch-dir", run_dir]
    with gateway(servers, root / "open", *options) as opened:
        yield opened


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Page]]:
    """Open pages, each of a browser of its own; sees that they are quiet and stay on their host."""
    said: list[str] = []
    asked: list[str] = []
    with ExitStack() as stack:

        def opened(address: str, *, says: str = "", **settings: object) -> Page:
            context = browser.new_context(**settings)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(WAIT_MS)
            told = lambda text: None if says and says in text else said.append(text)  # noqa: E731
            page.on(
                "console", lambda one: told(one.text) if one.type in ("error", "warning") else None
            )
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda one: asked.append(one.url))
            page.goto(address)
            page.host = address.split("/")[2]
            return page

        yield opened
        hosts = {one.split("/")[2] for one in asked if one.startswith(("http", "ws"))}
    assert said == []
    assert all(host.startswith("127.0.0.1:") for host in hosts), hosts


def ask(page: Page, video: Path, *queries: str) -> str:
    """Upload a video, ask, and return the id of the job that has ended."""
    upload(page, video)
    page.get_by_label("One question a line").fill("\n".join(queries))
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator(".timeline canvas").wait_for()
    return page.url.rsplit("/", 1)[-1]


def upload(page: Page, video: Path) -> None:
    page.get_by_label("Video file").set_input_files(video)
    page.locator(".chosen", has_text=video.name).wait_for()

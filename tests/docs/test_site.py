"""The site has every page, reference and link. Zensical leaves out in silence what it cannot do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from html import unescape
from importlib.metadata import Distribution
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import groundserve
from groundserve.cli.app import load_command, make_command
from scripts.docs_site import licence_of
from tests.support.reference import REPOSITORY

GENERATED = {"index", "changelog", "security", "commands", "openapi", "licences"}
WORDS = 42_000


@pytest.fixture(scope="module")
def site() -> Path:
    run = subprocess.run(
        [sys.executable, "scripts/docs_site.py"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return REPOSITORY / "build" / "site"


def pages() -> set[str]:
    return {path.stem for path in (REPOSITORY / "docs").glob("*.md")} | GENERATED


def html(site, page):
    folder = site if page == "index" else site / page
    return (folder / "index.html").read_text("utf-8")


def words(text):
    return " ".join(unescape(re.sub(r"<[^>]+>", "", text)).split())


def test_every_page_is_listed_comes_out_and_is_found(site):
    def listed(nav):
        for entry in nav:
            match entry:
                case str():
                    yield entry.removesuffix(".md")
                case dict():
                    (below,) = entry.values()
                    yield from listed(below if isinstance(below, list) else [below])

    nav = list(listed(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text("utf-8"))["nav"]))
    assert sorted(nav) == sorted(pages()), "add it to the nav of mkdocs.yml"
    found = json.loads((site / "search.json").read_text("utf-8"))["items"]
    searched = {item["location"].partition("#")[0].strip("/") or "index" for item in found}
    assert pages() - searched == set()
    assert not [page for page in pages() if "<h1" not in html(site, page)]


def test_what_the_docs_weigh():
    sources = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    assert sum(len(path.read_text("utf-8").split()) for path in sources) <= WORDS


def test_every_link_within_the_site_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    wrong = []
    for path in site.rglob("*.html"):
        if path.name == "404.html":
            continue
        text = path.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="([^"]+)"', text)
        wrong += [(path, link) for link in loaded if re.match(r"(https?:)?//", link)]
        for link in re.findall(r'(?:src|href)="([^"]+)"', text):
            if re.match(r"(\w+:|//|#|\.$)", link) or not link:
                continue
            target = path.parent / unquote(unescape(link).partition("#")[0].partition("?")[0])
            if not (target.is_file() or (target / "index.html").is_file()):
                wrong.append((path, link))
    assert not [(str(path.relative_to(site)), link) for path, link in wrong]


def test_the_api_reference_has_what_docstrings_say(site):
    text = words(html(site, "api"))
    missing = []
    for name in set(groundserve.__all__) - {"__version__"}:
        thing = getattr(groundserve, name)
        first = thing.__doc__.splitlines()[0]
        if words(first.replace("`", "")) not in text:
            missing.append((name, first))
    assert not missing
    for said in ("top_k", "Raises", "selected_seconds"):
        assert said in text


def test_the_command_reference_has_every_option(site):
    text = words(html(site, "commands"))

    def options(command):
        for one in command.params:
            yield from (name for name in one.opts if name.startswith("--"))
        for below in getattr(command, "commands", {}).values():
            yield from options(below)

    for name in make_command().commands:
        command = load_command(name)
        assert f"groundserve {name}" in text
        assert not [option for option in options(command) if option not in text]


def test_the_http_reference_is_the_gateways(site):
    described = json.loads((site / "openapi.json").read_text("utf-8"))
    assert "/v1/score" in described["paths"]
    page = html(site, "openapi")
    assert 'url: "../openapi.json"' in page
    assert "SwaggerUIBundle" in (site / "swagger-ui-bundle.js").read_text("utf-8")


def test_every_installed_package_is_in_the_sbom_and_states_its_licence(site):
    sbom = json.loads((site / "sbom.json").read_text("utf-8"))
    listed = {(one["name"], one["version"]) for one in sbom["components"]}
    # Not those that Ray carries within, and puts in front once another test has imported it.
    found = list(Distribution.discover(path=[sysconfig.get_path("purelib")]))
    installed = {(one.name, one.version) for one in found if one.name != "groundserve"}
    assert installed <= listed
    page = html(site, "licences")
    assert not [name for name, version in installed if f"<td>{name}</td>" not in page]
    assert "not stated" not in page
    copyleft = {one.name for one in found if re.search(r"\bA?GPL", licence_of(one))}
    assert copyleft <= {"docutils"}  # where that is the licence of a file for Emacs alone

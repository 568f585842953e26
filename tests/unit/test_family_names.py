"""A family is loaded when it is asked for, and what its weights need when they are opened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from groundserve.families import family_names

REPOSITORY = Path(__file__).parents[2]
"""(file, word) -> why it may stand there."""

IMPORT = """
import sys
import {module}
print(*[name for name in sys.modules if name.startswith({prefixes})])
"""


def imported(module: str, *prefixes: str) -> list[str]:
    """Return which modules of these prefixes a fresh process has after importing one."""
    program = IMPORT.format(module=module, prefixes=repr(prefixes))
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    return run.stdout.split()


OWN = ("base", "parts", "plans", "transformers_version")


def test_the_registry_imports_no_family():
    loaded = imported("groundserve.families", "groundserve.families.")
    own = {f"groundserve.families.{name}" for name in OWN}
    assert set(loaded) == own


@pytest.mark.parametrize("name", family_names())
def test_a_familys_module_needs_no_library_of_its_weights(name):
    libraries = ("torch", "transformers", "tokenizers", "safetensors")
    module = f"groundserve.families.{name}"
    loaded = imported(f"{module} as family; family.FAMILY", *libraries, f"{module}.")
    assert not [one for one in loaded if one.split(".")[0] in libraries]
    assert f"{module}.plan" in loaded  # which is asked for without them

"""What is one family's stays in its folders: its words, and the libraries that its weights need."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from groundserve.families import family_names

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("groundserve", "python_backend", "engine_build", "train", "triton_models")
HOMES = tuple(
    f"{package}/families/videoitg/" for package in ("groundserve", "engine_build", "train")
)
# POOL is the tensor; a pool of processes or of memory is anybody's.
WORDS = re.compile(r"(?i:siglip|qwen|\bgrid|pooling.?weight)|\bPOOL\b")
EXCEPTIONS = {
    ("engine_build/families/mixed_layers.py", "siglip"): "whose layer is laid out as CLIP's",
    ("engine_build/trtllm/layout.py", "qwen"): "the library's file in which names were read",
    ("groundserve/batch/report_style.py", "grid"): "a layout of CSS",
    ("groundserve/exports/lmms_eval.py", "qwen"): "files of the harness that reads what it writes",
    ("groundserve/results.py", "grid"): "a field of the published answer",
    ("groundserve/visuals.py", "grid"): "matplotlib's lines behind a plot",
}
"""(file, word) -> why it may stand there."""

IMPORT = """
import sys
import {module}
print(*[name for name in sys.modules if name.startswith({prefixes})])
"""


def places_of_words() -> dict[str, set[tuple[str, str]]]:
    """Return FILE:LINE: TEXT of each line outside the homes that has such words -> (file, word)."""
    found = {}
    for path in sorted(path for folder in SOURCES for path in (REPOSITORY / folder).rglob("*.py")):
        file = path.relative_to(REPOSITORY).as_posix()
        if file.startswith(HOMES):
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if words := WORDS.findall(line):
                places = {(file, word.lower()) for word in words}
                found[f"{file}:{number}: {line.strip()}"] = places
    return found


def test_a_familys_words_stay_in_its_folders():
    wrong = [line for line, places in places_of_words().items() if places - EXCEPTIONS.keys()]
    listed = "\n".join(wrong)
    assert not wrong, f"{len(wrong)} lines name what is VideoITG's, outside its folders:\n{listed}"


def test_every_exception_is_still_needed():
    assert not EXCEPTIONS.keys() - set().union(*places_of_words().values())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("from transformers import Qwen2Config, SiglipVisionModel", ["Qwen", "Siglip"]),
        ("side = grid_side(4)", ["grid"]),
        (
            "def pooling_weights(): # the Grid's pooling weights",
            ["pooling_weight", "Grid", "pooling weight"],
        ),
        ('inputs["POOL"]', ["POOL"]),
        ("with ThreadPoolExecutor() as pool: a_grid, pooled features, the CUDA pool", []),
    ],
)
def test_words_that_are_a_familys(line, words):
    assert WORDS.findall(line) == words


def imported(module: str, *prefixes: str) -> list[str]:
    """Return which modules of these prefixes a fresh process has after importing one."""
    program = IMPORT.format(module=module, prefixes=repr(prefixes))
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    return run.stdout.split()


def test_the_registry_imports_no_family():
    loaded = imported("groundserve.families", "groundserve.families.")
    assert set(loaded) == {"groundserve.families.base", "groundserve.families.plans"}


@pytest.mark.parametrize("name", family_names())
def test_a_familys_module_needs_no_library_of_its_weights(name):
    libraries = ("torch", "transformers", "tokenizers", "safetensors")
    module = f"groundserve.families.{name}"
    loaded = imported(f"{module} as family; family.FAMILY", *libraries, f"{module}.")
    assert not [one for one in loaded if one.split(".")[0] in libraries]
    assert f"{module}.plan" in loaded  # which is asked for without them

"""The shape of the source tree: who may import whom, and what `import groundserve` needs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import groundserve

REPOSITORY = Path(__file__).parent.parent.parent
APPLICATIONS = {"cli", "scoring", "batch", "gateway", "serving"}
STAGES = {"engine_build", "python_backend", "train"}
# Layer -> layers it may import. Ends (triton_models, benchmarks, tests) may import anything.
ALLOWED = {
    "library": {"library"},
    "engine_build": {"library", "engine_build"},
    "python_backend": {"library", "python_backend"},
    "train": {"library", "train"},
    "application": {"library", "application", "engine_build", "python_backend", "train"},
}
# A program in which nothing can be imported but numpy, the standard library and groundserve.
NUMPY_ONLY = """
import sys, importlib.abc
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        allowed = {"numpy", "groundserve", *sys.stdlib_module_names}
        if name.split(".")[0] not in allowed:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
import groundserve
try:
    groundserve.Client()
except groundserve.MissingExtraError as error:
    print(error)
"""


def layer(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "groundserve":
        return "application" if len(parts) > 1 and parts[1] in APPLICATIONS else "library"
    return parts[0] if parts[0] in ALLOWED else None


def source_files() -> list[Path]:
    folders = ("groundserve", "engine_build", "python_backend", "train")
    return [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]


def imports(path: Path) -> list[tuple[str, bool]]:
    """Return (module, at_top_level) of every import statement."""
    tree = ast.parse(path.read_text("utf-8"))
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(name.name, id(node) in top) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [(f"{node.module}.{name.name}", id(node) in top) for name in node.names]
    return found


def test_imports_go_one_way():
    wrong = []
    for path in source_files():
        own = layer(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
        for module, at_top in imports(path):
            target = layer(module)
            if target is None:
                continue
            if target not in ALLOWED[own]:
                wrong.append(f"{path.relative_to(REPOSITORY)} imports {module}")
            if own == "application" and target in STAGES and at_top:
                wrong.append(f"{path.relative_to(REPOSITORY)} imports {module} outside a function")
    assert not wrong, "\n".join(wrong)


def test_import_groundserve_needs_numpy_alone():
    run = subprocess.run(
        [sys.executable, "-c", NUMPY_ONLY], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == (
        "tritonclient is not installed; it comes with: pip install 'groundserve[serve]'"
    )


def test_public_names_are_importable():
    for name in groundserve.__all__:
        assert hasattr(groundserve, name), name
    assert sorted(groundserve.__all__) == groundserve.__all__


@pytest.mark.parametrize("package", ["groundserve", "engine_build", "python_backend", "train"])
def test_packages_are_typed(package):
    assert (Path(importlib.import_module(package).__file__).parent / "py.typed").is_file()

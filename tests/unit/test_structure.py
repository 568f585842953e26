"""The shape of the source tree: who may import whom, and what `import groundserve` needs.

`python -m tests.unit.test_structure` draws the map of docs/architecture.md anew.
"""

import ast
import importlib
import pydoc
import subprocess
import sys
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import groundserve
from groundserve.families import family_names

REPOSITORY = Path(__file__).parent.parent.parent
APPLICATIONS = {"__main__", "cli", "scoring", "batch", "serving", "gateway", "annotate"}
PACKAGES = ("groundserve", "engine_build", "python_backend", "train")
PAGE = REPOSITORY / "docs" / "architecture.md"
# Layer -> layers it may import. Ends (triton_models, benchmarks, tests) may import anything.
ALLOWED = {
    "library": {"library"},
    "engine_build": {"library", "engine_build"},
    "python_backend": {"library", "python_backend"},
    "train": {"library", "train"},
    "application": {"library", "application", "engine_build", "python_backend", "train"},
}
# The one way out of the library: callers find `Pipeline` beside `Client`, in the package they know.
# It is loaded when it is asked for, so that nothing of the library rests on a stage.
PUBLIC_FACE = ("groundserve/__init__.py", "python_backend.pipeline.Pipeline")
# (file, family) that knows a family from outside its folders -> why it may.
KNOWS_A_FAMILY = {
    ("engine_build/triton/__main__.py", "videoitg"): "whose released model is rendered",
    ("engine_build/triton/__main__.py", "vtimellm"): "whose published model is rendered",
    ("engine_build/trtllm/build.py", "videoitg"): "alone has an engine of TensorRT-LLM",
    ("engine_build/trtllm/convert.py", "videoitg"): "whose weights are renamed",
    ("groundserve/evaluation/activitynet/answers.py", "vtimellm"): "whose log is read",
    ("groundserve/evaluation/activitynet/vtgllm_files.py", "vtgllm"): "whose files are read",
    ("groundserve/evaluation/highlights.py", "vtgllm"): "whose answers are read",
    ("groundserve/evaluation/scored_records.py", "videoitg"): "by whose rule records count frames",
    ("groundserve/exports/formats.py", "videoitg"): "by whose rule benchmarks sample",
}
MAX_LOCAL_IMPORTS = 40  # in functions; `groundserve.extras` is for libraries that may be absent
MAX_FUNCTION_LINES, MAX_FILE_LINES = 60, 400
# Commands are tables of options.
COMMANDS = {
    *(f"groundserve/cli/{name}.py command" for name in ("ask", "build", "export")),
    *(f"groundserve/cli/{name}.py command" for name in ("score", "serve")),
}
# A program in which nothing can be imported but numpy, the standard library and groundserve.
NUMPY_ONLY = """
import sys, importlib.abc
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        allowed = {"numpy", "groundserve", "python_backend", *sys.stdlib_module_names}
        if name.split(".")[0] not in allowed:
            raise ModuleNotFoundError(name + " is blocked", name=name)
sys.meta_path.insert(0, Block())
"""
NO_CLIENT = """
import groundserve
assert "python_backend" not in sys.modules
for make in (
    groundserve.Client,
    groundserve.AsyncClient,
    lambda: groundserve.Pipeline.from_checkpoint("anything"),
):
    try:
        make()
    except groundserve.MissingExtraError as error:
        print(error)
from groundserve import *
print(Pipeline.__name__)
"""

EACH_HELP = """
import sys
from groundserve.cli.app import load_command, make_command
for name, listed in make_command().commands.items():
    assert load_command(name).help.startswith(listed.help), name
heavy = {"av", "grpc", "matplotlib", "onnxruntime", "pyarrow", "ray", "torch", "tritonclient"}
assert not heavy & set(sys.modules)
"""


def layer(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "groundserve":
        return "application" if len(parts) > 1 and parts[1] in APPLICATIONS else "library"
    return parts[0] if parts[0] in ALLOWED else None


def source_files(*more: str) -> list[Path]:
    return [one for name in (*PACKAGES, *more) for one in sorted((REPOSITORY / name).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def draw_map() -> str:
    """Return the folders two levels deep by layer, each with the first line of its docstring."""
    rows: dict[str, list[str]] = {name: [] for name in ALLOWED}
    for path in source_files():
        place = path.relative_to(REPOSITORY)
        if place.name == "__init__.py" and len(place.parts) <= 3:
            said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
            line = said.splitlines()[0].rstrip(".")
            rows[layer(module_of(path))].append(f"| `{place.parent.as_posix()}/` | {line} |")
    lines = []
    for name, found in rows.items():
        others = ", ".join(sorted(ALLOWED[name] - {name}))
        lines += [f"| **{name}**, imports {others or 'itself alone'} | |", *found]
    return "\n".join(["| folder | holds |", "| --- | --- |", *lines])


def draw_page(page: str) -> str:
    before, rest = page.split("<!-- map -->\n")
    return f"{before}<!-- map -->\n{draw_map()}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"


def test_the_page_has_the_folders_that_there_are():
    page = PAGE.read_text("utf-8")
    assert draw_page(page) == page, "draw it anew with: python -m tests.unit.test_structure"
    assert len(page.replace("|", "").split()) <= 1100


def test_no_import_circle():
    """Of what modules import when they are loaded; graphlib names the circle it finds."""
    paths = {module_of(path): path for path in source_files()}
    graph = {}
    for own, path in paths.items():
        loaded = [name for name, at_top in imports(path) if at_top]
        found = {name if name in paths else name.rpartition(".")[0] for name in loaded}
        graph[own] = found & paths.keys() - {own}
    TopologicalSorter(graph).prepare()


def test_files_and_functions_are_short_and_docstrings_say_something():
    files, long, empty, local = [], set(), [], set()
    for path in source_files("benchmarks", "scripts"):
        place, text = path.relative_to(REPOSITORY).as_posix(), path.read_text("utf-8")
        tree = ast.parse(text)
        if text.count("\n") > MAX_FILE_LINES:
            files.add(place)
        for one in ast.walk(tree):
            if not isinstance(
                one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
            ):
                continue
            said = ast.get_docstring(one, clean=False) or ""
            if said.startswith(("Of ", "See ", "Those ")):
                empty.append(f"{place}:{getattr(one, 'lineno', 1)}")
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                of_docstring = len(said.splitlines())
                if one.end_lineno - one.lineno + 1 - of_docstring > MAX_FUNCTION_LINES:
                    long.add(f"{place} {one.name}")
                inner = [x for x in ast.walk(one) if isinstance(x, ast.Import | ast.ImportFrom)]
                local |= {(place, x.lineno) for x in inner if place.startswith(PACKAGES)}
    assert not files
    assert long == COMMANDS
    assert not empty
    assert len(local) <= MAX_LOCAL_IMPORTS


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
        own = layer(module_of(path))
        for module, at_top in imports(path):
            target = layer(module)
            if target is None:
                continue
            place = (path.relative_to(REPOSITORY).as_posix(), module)
            if target not in ALLOWED[own] and (place != PUBLIC_FACE or at_top):
                wrong.append(f"{path.relative_to(REPOSITORY)} imports {module}")
    assert not wrong, "\n".join(wrong)


def family_of(module: str) -> str | None:
    match module.split("."):
        case [_, "families", name, *_] if name in family_names():
            return name
    return None


def test_nobody_imports_a_family_but_itself():
    """What is shared asks the registries; a family knows no other one."""
    known = set()
    for path in source_files():
        place = path.relative_to(REPOSITORY)
        families = {family_of(module) for module, _ in imports(path)}
        known |= {
            (place.as_posix(), family)
            for family in families - {None, family_of(".".join(place.with_suffix("").parts))}
        }
    assert known == KNOWS_A_FAMILY.keys()


def test_import_groundserve_needs_numpy_alone():
    run = subprocess.run(
        [sys.executable, "-c", NUMPY_ONLY + NO_CLIENT],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert run.returncode == 0, run.stderr
    client, async_client, checkpoint, imported = run.stdout.splitlines()
    assert (
        client
        == async_client
        == ("tritonclient is not installed; it comes with: pip install 'groundserve[client]'")
    )
    assert checkpoint == "torch is not installed; it comes with: pip install 'groundserve[build]'"
    assert imported == "Pipeline"


@pytest.mark.parametrize(
    ("package", "some"),
    [
        (
            "evaluation",
            {"report", "comparison", "bootstrap", "qa.endpoint", "activitynet.captions"},
        ),
        ("exports", {"export", "sources", "pictures"}),
    ],
)
def test_importing_needs_numpy_alone(package, some):
    folder = REPOSITORY / "groundserve" / package
    paths = folder.rglob("[!_]*.py")
    names = {".".join(path.relative_to(folder).with_suffix("").parts) for path in paths}
    assert some <= names
    imports = "\n".join(f"import groundserve.{package}.{name}" for name in sorted(names))
    run = subprocess.run(
        [sys.executable, "-c", NUMPY_ONLY + imports],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert run.returncode == 0, run.stderr


def test_help_imports_nothing_heavy_and_begins_as_it_is_listed():
    run = subprocess.run([sys.executable, "-c", EACH_HELP], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_public_names_are_importable():
    for name in groundserve.__all__:
        assert hasattr(groundserve, name), name
    assert sorted(groundserve.__all__) == groundserve.__all__
    assert set(groundserve.__all__) <= set(dir(groundserve))
    assert "class Pipeline" in pydoc.plain(pydoc.render_doc(groundserve))
    with pytest.raises(AttributeError, match="has no attribute 'Pipelin'"):
        groundserve.Pipelin  # noqa: B018


@pytest.mark.parametrize("package", ["groundserve", "engine_build", "python_backend", "train"])
def test_packages_are_typed(package):
    assert (Path(importlib.import_module(package).__file__).parent / "py.typed").is_file()


def test_pytest_leaves_no_folder_of_tests_out(request):
    """Of itself it goes into no folder called `build`."""
    patterns = request.config.getini("norecursedirs")
    tests = REPOSITORY / "tests"
    folders = {part for path in tests.rglob("test_*.py") for part in path.relative_to(tests).parts}
    assert not [name for name in folders if any(fnmatch(name, pattern) for pattern in patterns)]


if __name__ == "__main__":
    PAGE.write_text(draw_page(PAGE.read_text("utf-8")), "utf-8")

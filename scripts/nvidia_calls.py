"""Calls of ours to NVIDIA's libraries that docs/nvidia_calls.json has no record of, printed.

A name of a library is followed from where it is imported, and from the values that "objects" of the
data tells of, through attributes and results of calls whose records say what they give.
"""

import ast
import json
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
DATA = REPOSITORY / "docs" / "nvidia_calls.json"
FOLDERS = ("groundserve", "engine_build", "python_backend", "train", "benchmarks", "triton_models")
LIBRARIES = ("tensorrt", "tensorrt_llm", "nvidia.dali", "pb_utils")


def names_of(record: dict[str, Any]) -> list[str]:
    """Return the names that one record is about."""
    call = record["call"]
    return [f"{call}.{member}" for member in record["members"]] if "members" in record else [call]


def find_uses() -> dict[str, str]:
    """Return each name that the code reaches in a library, and a place where it does."""
    data = json.loads(DATA.read_text("utf-8"))
    gives = {name: one.get("gives") for one in data["records"] for name in names_of(one)}
    uses: dict[str, str] = {}

    def follow(node: ast.AST | None, known: dict[str, str]) -> str | None:
        """Return what an expression is: "-> T" is what gives a T when it is called."""
        if node and ast.unparse(node) in known:
            return known[ast.unparse(node)]
        if isinstance(node, ast.Call):
            name = follow(node.func, known) or ""
            found = gives.get(name) or name
            return found.removeprefix("-> ") if found.startswith("-> ") else None
        if isinstance(node, ast.Attribute) and (base := follow(node.value, known)):
            name = f"{base}.{node.attr}"
            found = gives.get(name) or name
            return name if found.startswith("-> ") else found
        return None

    for path in sorted(one for folder in FOLDERS for one in (REPOSITORY / folder).rglob("*.py")):
        place = path.relative_to(REPOSITORY).as_posix()
        known = dict(data["objects"].get(place, {}))
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                for one in node.names:
                    name = f"{module}{one.name}".replace("triton_python_backend_utils", "pb_utils")
                    if f"{name}.".startswith(tuple(f"{library}." for library in LIBRARIES)):
                        known[one.asname or one.name] = name
                        uses.setdefault(name, f"{place}:{node.lineno}")
        for node in nodes:
            if isinstance(node, ast.arg) and (name := follow(node.annotation, known)):
                known[node.arg] = name
            if isinstance(node, ast.Assign) and (name := follow(node.value, known)):
                known |= {ast.unparse(target): name for target in node.targets}
        for node in nodes:
            if isinstance(node, ast.Attribute) and (base := follow(node.value, known)):
                uses.setdefault(f"{base}.{node.attr}", f"{place}:{node.lineno}")
            elif isinstance(node, ast.Call) and (name := follow(node.func, known)):
                uses.setdefault(name.removeprefix("-> "), f"{place}:{node.lineno}")
    # What is but a step to what is reached in it needs no record of its own.
    steps = {one for one in uses if any(two.startswith(f"{one}.") for two in uses)}
    return {name: uses[name] for name in sorted(uses.keys() - steps)}


def find_missing() -> list[str]:
    """Return the uses that have no record."""
    records = json.loads(DATA.read_text("utf-8"))["records"]
    recorded = {name for record in records for name in names_of(record)}
    return [f"{name}: {place}" for name, place in find_uses().items() if name not in recorded]


if __name__ == "__main__":
    print(*find_missing(), sep="\n")

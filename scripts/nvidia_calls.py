"""Every call of ours to NVIDIA's libraries, as the code reaches them.

`python scripts/nvidia_calls.py` prints them. docs/nvidia_calls.json says where each was looked up;
`tests/unit/test_nvidia_calls.py` holds code and records together.

A value's type is followed from the libraries' modules through our assignments: the record of
`tensorrt.Builder.create_network` says that it gives an INetworkDefinition, so each attribute of
that value is a call with a record of its own. What cannot be followed (a parameter, a result of a
function of ours) is told by "objects" in the data.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
DATA = REPOSITORY / "docs" / "nvidia_calls.json"
LIBRARIES = {
    "tensorrt_llm": "TensorRT-LLM",
    "tensorrt": "TensorRT",
    "nvidia.dali": "DALI",
    "pb_utils": "Triton's Python backend",
}
# What the names of a library's records begin with.
_PREFIXES = {
    **{name: (f"{name}.",) for name in LIBRARIES},
    "tensorrt_llm": ("tensorrt_llm.", "trtllm-"),
}
_FOLDERS = ("groundserve", "engine_build", "python_backend", "train", "benchmarks", "triton_models")
# Modules that have another name in the records.
_ALIASES = {"triton_python_backend_utils": "pb_utils", "tensorrt_rtx": "tensorrt"}
# Notation of types, in the data and here. `T()` is a value of the type T; without it the name is
# that of a module, a class or a function.
_VALUE = "()"
_LIST_OF = "list of "  # or tuple, or the values of a dict
_CALL_GIVES = "-> "
_FLAGS_OF = "flags of "
# Built-in functions, and what they call. A name that only a string says is one of "*".
_SPECIAL = {"len": "__len__", "getattr": "*"}

Uses = dict[str, list[str]]
"""Name in a library -> where the code reaches it, "path:line"."""


def find_uses(data: dict[str, Any]) -> Uses:
    """Return what the code reaches of the libraries.

    Raises:
        ValueError: "objects" of the data names something that is not in the code.
    """
    uses: Uses = defaultdict(list)
    unknown = set(data["objects"])
    for path in _source_files():
        name = path.relative_to(REPOSITORY).as_posix()
        reader = _Reader(name, data, uses)
        reader.visit(ast.parse(path.read_text("utf-8")))
        unknown.discard(name)
        # Told in the data, but not met in the code any more.
        unknown |= {f"{name}: {text}" for text in reader.objects.keys() - reader.used_objects}
    if unknown:
        raise ValueError(f"objects that the code does not have: {', '.join(sorted(unknown))}")
    # A module is but a step to what is reached in it.
    modules = {name for name in uses if name.islower() and any(_inside(name, n) for n in uses)}
    return {name: places for name, places in uses.items() if name not in modules}


def names_of(record: dict[str, Any]) -> list[str]:
    """Return the names that one record is about."""
    call = record["call"]
    return [f"{call}.{member}" for member in record["members"]] if "members" in record else [call]


class _Reader(ast.NodeVisitor):
    """Notes what one file reaches."""

    def __init__(self, path: str, data: dict[str, Any], uses: Uses) -> None:
        self._path = path
        self._uses = uses
        self._gives = {
            name: record["gives"]
            for record in data["records"]
            if "gives" in record
            for name in names_of(record)
        }
        self.objects: dict[str, str] = data["objects"].get(path, {})
        self.used_objects: set[str] = set()
        # Innermost last, as names are looked up in Python; the first is the module's.
        self._scopes: list[dict[str, str]] = [{}]
        # Attribute nodes that are the left part of a longer one, by id: the tree outlives this set.
        self._steps: set[int] = set()

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            library = _library_name(alias.name)
            if library is not None:
                # `import a.b` binds a, `import a.b as c` binds c.
                self._scopes[-1][alias.asname or alias.name.split(".")[0]] = library

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        library = _library_name(node.module or "")
        if library is not None:
            for alias in node.names:
                self._scopes[-1][alias.asname or alias.name] = f"{library}.{alias.name}"

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scopes.append({})
        # Where a parameter has no annotation, "objects" in the data tells what it is.
        for argument in (*node.args.args, *node.args.kwonlyargs):
            found = argument.annotation and self._type(argument.annotation)
            if found is not None:
                self._scopes[-1][argument.arg] = found + _VALUE
        # Not the annotations themselves: a type that is only named is no call.
        for part in (*node.decorator_list, *node.args.defaults, *node.body):
            self.visit(part)
        self._scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        # To inherit from a class of a library is to reach it, as much as a call is.
        for base in node.bases:
            self._note(self._type(base), base)
        # `self` has no annotation to follow.
        own = f"{node.name}.self"
        self._scopes.append({})
        if own in self.objects:
            self.used_objects.add(own)
            self._scopes[-1]["self"] = self.objects[own] + _VALUE
        for part in node.body:
            self.visit(part)
        self._scopes.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._bind(target, node.value)
            program = self.objects.get(ast.unparse(target), "")
            if program.startswith(_FLAGS_OF) and isinstance(node.value, ast.Dict):
                self.used_objects.add(ast.unparse(target))
                for key in node.value.keys:
                    if isinstance(key, ast.Constant):
                        self._note(f"{program.removeprefix(_FLAGS_OF)}.--{key.value}", key)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.target)
            self.visit(node.value)
            self._bind(node.target, node.value)

    # The target first: the body is read with it bound.
    def visit_For(self, node: ast.For) -> None:
        self._bind_item(node.target, node.iter)
        self.generic_visit(node)
        self._note_special(node.iter, "__iter__")

    def visit_With(self, node: ast.With) -> None:
        self.generic_visit(node)
        for item in node.items:
            self._note_special(item.context_expr, "__enter__")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.generic_visit(node)
        # Python asks the left operand first. The node's name gives the method's for Add and Sub; a
        # `*` would have to be `__mult__` in the data.
        self._note_special(node.left, f"__{type(node.op).__name__.lower()}__")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._steps.add(id(node.value))
        self.generic_visit(node)
        base = self._type(node.value)
        # `dali.fn` is but a step to `dali.fn.resize`; an attribute of a value is always read.
        if base is not None and (base.endswith(_VALUE) or id(node) not in self._steps):
            self._note(_member(base, node.attr), node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.generic_visit(node)
        is_read = isinstance(node.ctx, ast.Load)
        self._note_special(node.value, "__getitem__" if is_read else "__setitem__")

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = self._type(node.func)
        if function is not None and function.endswith(_VALUE):
            self._note(_member(function, "__call__"), node)
        elif isinstance(node.func, ast.Name):
            self._note(function, node)
            if node.func.id in _SPECIAL and node.args:  # len(x), getattr(x, name)
                self._note_special(node.args[0], _SPECIAL[node.func.id])

    def _visit_generators(self, node: Any) -> None:
        self._scopes.append({})
        # Before the element, which stands first in the tree and uses their targets.
        for generator in node.generators:
            self._bind_item(generator.target, generator.iter)
        self.generic_visit(node)
        self._scopes.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_generators  # noqa: N815

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one_target, one_value in zip(target.elts, value.elts, strict=True):
                self._bind(one_target, one_value)
        elif isinstance(target, ast.Tuple):
            for one_target in target.elts:
                self._bind_item(one_target, value)
        else:
            self._set(target, self._type(value))

    def _bind_item(self, target: ast.expr, values: ast.expr) -> None:
        found = self._type(values)
        if found is not None and found.startswith(_LIST_OF):
            self._set(target, found.removeprefix(_LIST_OF))

    def _set(self, target: ast.expr, found: str | None) -> None:
        if found is not None:
            # All methods of a file's classes see an attribute of `self`.
            scope = self._scopes[-1 if isinstance(target, ast.Name) else 0]
            scope[ast.unparse(target)] = found

    def _type(self, node: ast.expr) -> str | None:
        """Return what an expression is of a library, None for everything else."""
        text = ast.unparse(node)
        for scope in reversed(self._scopes):
            if text in scope:
                return scope[text]
        if text in self.objects and not self.objects[text].startswith(_FLAGS_OF):
            self.used_objects.add(text)
            return _as_value(self.objects[text])
        if isinstance(node, ast.Attribute):
            base = self._type(node.value)
            if base is None:
                return None
            # What a property gives is known at once, what a method gives when it is called.
            name = _member(base, node.attr)
            gives = self._gives.get(name, "")
            return name if not gives or gives.startswith(_CALL_GIVES) else _as_value(gives)
        if isinstance(node, ast.Subscript):
            base = self._type(node.value)
            if base is None or base.startswith(_LIST_OF):
                return base and base.removeprefix(_LIST_OF)
            return self._given_by(_member(base, "__getitem__"))
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) == "importlib.import_module":
                name = node.args[0]
                return _library_name(name.value) if isinstance(name, ast.Constant) else None
            function = self._type(node.func)
            if function is None:
                return None
            if function.startswith(_CALL_GIVES):
                return _as_value(function.removeprefix(_CALL_GIVES))
            is_value = function.endswith(_VALUE)
            return self._given_by(_member(function, "__call__") if is_value else function)
        return None

    def _given_by(self, name: str) -> str | None:
        gives = self._gives.get(name)
        return _as_value(gives.removeprefix(_CALL_GIVES)) if gives else None

    def _note_special(self, node: ast.expr, member: str) -> None:
        """Note what the language calls on a value, not the name in the code."""
        base = self._type(node)
        if base is not None and not base.startswith(_LIST_OF):
            self._note(_member(base, member), node)

    def _note(self, name: str | None, node: ast.expr) -> None:
        if name is not None:
            self._uses[name].append(f"{self._path}:{node.lineno}")


def _inside(module: str, name: str) -> bool:
    return name.startswith(f"{module}.")


def _member(base: str, name: str) -> str:
    return f"{base.removesuffix(_VALUE)}.{name}"


def _as_value(gives: str) -> str:
    """Return the notation of a value; a library's module is none."""
    return gives if gives in LIBRARIES or gives.startswith(_CALL_GIVES) else gives + _VALUE


def _library_name(module: str) -> str | None:
    """Return a module's name in the records, None for other libraries' modules."""
    # The dot keeps `tensorrt_llm` from being taken for a part of `tensorrt`.
    for library in (*_ALIASES, *LIBRARIES):
        if module == library or module.startswith(f"{library}."):
            return _ALIASES.get(library, library) + module.removeprefix(library)
    return None


def _source_files() -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from sorted((REPOSITORY / folder).rglob("*.py"))


def main() -> None:
    """Print what the code reaches."""
    uses = find_uses(json.loads(DATA.read_text("utf-8")))
    for name, places in sorted(uses.items()):
        print(name, *places)


if __name__ == "__main__":
    main()

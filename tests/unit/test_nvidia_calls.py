"""Each call to NVIDIA's libraries has its record, and each record its call."""

from __future__ import annotations

import functools
import importlib
import json
import warnings

import pytest

from scripts.nvidia_calls import DATA, FOLDERS, REPOSITORY, find_missing, names_of

RECORDS = json.loads(DATA.read_text("utf-8"))
RECORDED = {name for record in RECORDS["records"] for name in names_of(record)}


def test_every_call_has_a_record():
    assert find_missing() == [], (
        "read these in the library's sources, then add them to docs/nvidia_calls.json"
    )


def test_every_record_is_of_something_in_the_code():
    paths = (path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
    code = "".join(path.read_text("utf-8") for path in paths)
    parts = {name.rpartition(".")[2].removeprefix("--") for name in RECORDED}
    # What the language calls, and names that strings give, have no such text.
    assert [one for one in parts if "__" not in one and one != "*" and one not in code] == []
    assert len(RECORDED) == sum(len(names_of(record)) for record in RECORDS["records"])


def test_every_record_says_where_it_was_read_and_what_runs_it():
    sources = RECORDS["sources"]
    assert {key for record in RECORDS["records"] for key in record["read"]} == sources.keys()
    for key, source in sources.items():
        assert source["commit"] or "not known" in source["note"], key
    for record in RECORDS["records"]:
        assert record["read"], record
        assert record["found"], record
        if "run_in_ci" in record:
            assert (REPOSITORY / record["run_in_ci"]["test"]).is_file(), record


def named(library: str) -> list[list[str]]:
    """Return a library's recorded names in parts, but not those that a string gives."""
    names = (n.removeprefix(f"{library}.") for n in RECORDED if n.startswith(f"{library}."))
    return [name.split(".") for name in names if "*" not in name]


def test_the_installed_tensorrt_rtx_has_the_names():
    module = importlib.import_module("tensorrt_rtx")
    assert len(named("tensorrt")) > 50
    for name in named("tensorrt"):
        assert functools.reduce(getattr, name, module) is not None, name


@pytest.mark.parametrize("device", ["CPU", "GPU"])
def test_the_installed_dali_has_the_names(device):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DALI's own, of its dependencies
        dali = importlib.import_module("nvidia.dali")
        tensors = importlib.import_module("nvidia.dali.tensors")
    tensor_list = getattr(tensors, f"TensorList{device}")
    assert len(named("nvidia.dali")) > 10
    for name in named("nvidia.dali"):
        value, parts = (tensor_list, name[2:]) if "TensorList" in name else (dali, name)
        assert functools.reduce(getattr, parts, value) is not None, name

"""Each call to NVIDIA's libraries has its record, and each record its call."""

from __future__ import annotations

import functools
import importlib
import json
import warnings
from pathlib import Path

import pytest

from scripts import nvidia_calls
from scripts.nvidia_calls import DATA, REPOSITORY, find_uses, names_of

RECORDS = json.loads(DATA.read_text("utf-8"))
RECORDED = {name for record in RECORDS["records"] for name in names_of(record)}


@pytest.fixture(scope="module")
def uses():
    return find_uses(RECORDS)


def test_every_call_has_a_record(uses):
    missing = [f"{name}: {uses[name][0]}" for name in sorted(uses.keys() - RECORDED)]
    assert not missing, (
        "read these in the library's sources, then add them to docs/nvidia_calls.json:\n"
        + "\n".join(missing)
    )


def test_every_record_has_a_call(uses):
    assert sorted(RECORDED - uses.keys()) == []
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


def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> list[str]:
    """Return what one file with this code reaches."""
    (tmp_path / "python_backend").mkdir()
    (tmp_path / "python_backend" / "new.py").write_text(code)
    monkeypatch.setattr(nvidia_calls, "REPOSITORY", tmp_path)
    return sorted(find_uses({"objects": {}, "records": RECORDS["records"]}))


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        pytest.param(
            "import tensorrt as trt\nx = trt.Builder(None)\nx.create_network(0).add_input('a')",
            ["Builder", "Builder.create_network", "INetworkDefinition.add_input"],
            id="method_of_a_result",
        ),
        pytest.param(
            "import tensorrt_rtx\nclass A:\n  def __init__(self):\n"
            "    self.runtime = tensorrt_rtx.Runtime(None)\n"
            "  def load(self):\n    return self.runtime.max_threads",
            ["Runtime", "Runtime.max_threads"],
            id="attribute_of_self",
        ),
        pytest.param(
            "from tensorrt import ICudaEngine\ndef f(engine: ICudaEngine):\n  return engine.refit",
            ["ICudaEngine.refit"],
            id="annotated_parameter",
        ),
        pytest.param(
            "import importlib\nt = importlib.import_module('tensorrt')\nflag = t.BuilderFlag.FP16",
            ["BuilderFlag.FP16"],
            id="imported_by_name",
        ),
        pytest.param("import numpy\nnumpy.zeros(3).sum()", [], id="another_library"),
    ],
)
def test_a_new_call_is_found(monkeypatch, tmp_path, code, reached):
    assert read(monkeypatch, tmp_path, code) == [f"tensorrt.{name}" for name in reached]


def test_an_item_of_a_list_is_followed(monkeypatch, tmp_path):
    code = (
        "import triton_python_backend_utils as pb_utils\n"
        "response = pb_utils.InferenceRequest(inputs=[]).exec()\n"
        "shapes = {t.name(): t.shape() for t in response.output_tensors()}"
    )
    assert read(monkeypatch, tmp_path, code)[-2:] == [
        "pb_utils.Tensor.name",
        "pb_utils.Tensor.shape",
    ]


def test_an_object_that_the_code_lost_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(nvidia_calls, "REPOSITORY", tmp_path)
    with pytest.raises(ValueError, match=r"does not have: benchmarks/gone\.py$"):
        find_uses({"objects": {"benchmarks/gone.py": {"x": "tensorrt.Builder"}}, "records": []})

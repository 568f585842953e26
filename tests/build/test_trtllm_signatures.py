"""What our files call, and what the double offers, against the names in the library's sources."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from engine_build.families.videoitg import trtllm_convert as convert
from tests import fake_tensorrt_llm
from tests.fake_tensorrt_llm import (
    SIGNATURES,
    builder,
    functional,
    layers,
    models,
    module,
    network,
    quantization,
    runtime,
    trt,
    utils,
)
from tests.reference import REPOSITORY

MODEL_FILE = REPOSITORY / "engine_build" / "families" / "videoitg" / "trtllm_model.py"
RUNTIME_FILE = REPOSITORY / "python_backend" / "ground" / "tensorrt_llm.py"


@pytest.fixture(autouse=True)
def _library(monkeypatch):
    fake_tensorrt_llm.install(monkeypatch)


# Functions and classes of the library that each file calls.
CALLS = {
    MODEL_FILE: [
        "gpt_attention",
        "Tensor",
        "mark_output",
        "cast",
        "AttentionParams",
        "KeyValueCacheParams",
        "ColumnLinear",
        "RmsNorm",
        "GatedMLP",
        "FullAttention",
        "create_attention_const_params",
        "fill_attention_params",
    ],
    RUNTIME_FILE: ["from_serialized_engine", "set_shapes"],
}
SIGNATURE_OF = {"FullAttention": "Attention"}


def calls(path: Path, name: str) -> list[ast.Call]:
    """Return the calls of a function or method in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            if (called.attr if isinstance(called, ast.Attribute) else called.id) == name:
                found.append(node)
    return found


@pytest.mark.parametrize(
    ("path", "name"),
    [pytest.param(path, name, id=name) for path, names in CALLS.items() for name in names],
)
def test_calls_have_the_librarys_arguments(path, name):
    signature = SIGNATURES[SIGNATURE_OF.get(name, name)]
    found = calls(path, name)
    assert found
    for call in found:
        named = {keyword.arg for keyword in call.keywords}
        assert named <= {*signature["required"], *signature["optional"]}
        positional = (signature["required"] + signature["optional"])[: len(call.args)]
        assert set(signature["required"]) <= {*positional, *named}


def test_the_pass_has_the_librarys_arguments():
    (call,) = [c for c in calls(RUNTIME_FILE, "run") if len(c.args) == 3]
    assert SIGNATURES["run"]["required"] == ["inputs", "outputs", "stream"]
    assert not call.keywords


@pytest.mark.parametrize(
    ("owner", "signature"),
    [
        pytest.param("self", "Attention", id="attention"),
        pytest.param("attention_params", "AttentionParams", id="attention_params"),
        pytest.param("kv_cache_params", "KeyValueCacheParams", id="kv_cache_params"),
    ],
)
def test_attributes_that_are_read_exist_in_the_library(owner, signature):
    (attention,) = [
        node
        for node in ast.walk(ast.parse(MODEL_FILE.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and node.name == "FullAttention"
    ]
    read = {
        node.attr
        for node in ast.walk(attention)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
    }
    assert read
    assert read <= set(SIGNATURES[signature]["attributes"])


def test_prepare_inputs_takes_what_the_builder_passes():
    model_class = builder.load_model_class(MODEL_FILE, convert.ARCHITECTURE)
    parameters = inspect.signature(model_class.prepare_inputs).parameters
    required = {
        name
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert required <= set(SIGNATURES["prepare_inputs"]["optional"])
    assert any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


@pytest.mark.parametrize(
    ("double", "name"),
    [
        pytest.param(double, name, id=name)
        for name, double in {
            "gpt_attention": functional.gpt_attention,
            "Tensor": functional.Tensor,
            "cast": functional.cast,
            "mark_output": functional.Tensor.mark_output,
            "Attention": layers.Attention,
            "AttentionParams": layers.AttentionParams,
            "KeyValueCacheParams": layers.KeyValueCacheParams,
            "ColumnLinear": layers.ColumnLinear,
            "RowLinear": layers.RowLinear,
            "RmsNorm": layers.RmsNorm,
            "MLP": layers.MLP,
            "GatedMLP": layers.GatedMLP,
            "FusedGatedMLP": layers.FusedGatedMLP,
            "QWenConfig": models.QWenConfig,
            "from_serialized_engine": runtime.Session.from_serialized_engine,
            "set_shapes": runtime.Session.set_shapes,
            "run": runtime.Session.run,
        }.items()
    ],
)
def test_double_takes_what_the_library_takes(double, name):
    signature = SIGNATURES[name]
    parameters = [p for p in inspect.signature(double).parameters.values() if p.name != "self"]
    assert {p.name for p in parameters} <= {*signature["required"], *signature["optional"]}
    required = {p.name for p in parameters if p.default is inspect.Parameter.empty}
    assert required == set(signature["required"])


# The double's own: an engine that is built again each time it is loaded.
OWN = {"Deserialized"}
DOUBLES = [builder, functional, layers, models, module, network, quantization, runtime, trt, utils]


def defined(double):
    """Return the public functions and classes that a module of the double defines."""
    return {
        name
        for name, member in vars(double).items()
        if not name.startswith("_")
        and (inspect.isfunction(member) or inspect.isclass(member))
        and member.__module__ == double.__name__
    }


@pytest.mark.parametrize("double", [pytest.param(d, id=d.__name__.split(".")[-1]) for d in DOUBLES])
def test_every_part_of_the_double_names_its_source(double):
    names = defined(double) - OWN
    assert names
    for name in names - {"main", "parse_arguments"}:
        assert SIGNATURES[name]["path"].endswith((".py", ".cpp", ".h")), name
        assert re.match(r"[0-9a-f]{40}$|1\.x copy, commit not recorded", SIGNATURES[name]["commit"])

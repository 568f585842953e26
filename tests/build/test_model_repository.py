"""Every generated config.pbtxt says what its spec says, and the committed rendering is current."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from engine_build.triton.__main__ import REFERENCE_MODEL, render_all
from engine_build.triton.pbtxt import to_pbtxt
from engine_build.triton.render import MODEL_SPECS
from groundserve.profiles import PROFILES
from tests.reference import REPOSITORY

COMMITTED = REPOSITORY / "triton_models"
SPECS = [
    pytest.param(spec, id=f"{profile}-{spec.name}")
    for profile, make_specs in MODEL_SPECS.items()
    for spec in make_specs(REFERENCE_MODEL)
]


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def parse(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def test_committed_rendering_is_current(tmp_path):
    render_all(tmp_path)
    assert files(tmp_path) == files(COMMITTED), "run: python -m engine_build.triton"


def test_every_profile_is_rendered():
    assert set(MODEL_SPECS) == set(PROFILES)


@pytest.mark.parametrize("spec", SPECS)
def test_config_parses_back_to_the_spec(spec):
    text = to_pbtxt(spec)
    config = parse(text)
    assert f"max_batch_size: {spec.max_batch_size}\n" in text
    assert config.name == spec.name
    assert config.max_batch_size == spec.max_batch_size
    for found, wanted in ((config.input, spec.inputs), (config.output, spec.outputs)):
        assert [
            (tensor.name, DataType.Name(tensor.data_type), tuple(tensor.dims)) for tensor in found
        ] == [(tensor.name, f"TYPE_{tensor.data_type}", tensor.dims) for tensor in wanted]
    assert [tensor.optional for tensor in config.input] == [
        tensor.optional for tensor in spec.inputs
    ]
    if spec.is_ensemble:
        assert config.platform == "ensemble"
        assert not config.backend
        assert not config.instance_group
    else:
        assert config.backend == "python"
        assert [(group.count, group.kind) for group in config.instance_group] == [
            (spec.num_instances, ModelInstanceGroup.KIND_CPU)
        ]


@pytest.mark.parametrize("profile", MODEL_SPECS)
def test_first_step_refuses_what_may_not_wait(profile):
    config = parse((COMMITTED / profile / "video_features" / "config.pbtxt").read_text())
    policy = config.dynamic_batching.default_queue_policy
    assert policy.timeout_action == policy.REJECT
    assert policy.max_queue_size == 16
    assert policy.default_timeout_microseconds == 60_000_000
    assert policy.allow_timeout_override


@pytest.mark.parametrize("profile", MODEL_SPECS)
def test_ensemble_is_connected(profile):
    """Each step takes tensors that the request or an earlier step gives, with the same type."""
    configs = {
        path.parent.name: parse(path.read_text())
        for path in (COMMITTED / profile).glob("*/config.pbtxt")
    }
    ensemble = configs["videoitg"]
    known = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = configs[step.model_name]
        assert step.model_version == -1
        assert set(step.input_map) == {tensor.name for tensor in model.input}
        assert set(step.output_map) == {tensor.name for tensor in model.output}
        for tensor in model.input:
            assert known[step.input_map[tensor.name]] == (tensor.data_type, list(tensor.dims))
        for tensor in model.output:
            known[step.output_map[tensor.name]] = (tensor.data_type, list(tensor.dims))
    for tensor in ensemble.output:
        assert known[tensor.name] == (tensor.data_type, list(tensor.dims))


@pytest.mark.parametrize("profile", MODEL_SPECS)
def test_model_py_is_one_import(profile):
    models = list((COMMITTED / profile).glob("*/1/model.py"))
    assert len(models) == 5
    for path in models:
        name = path.parent.parent.name
        assert path.read_text() == (
            f"from python_backend.triton.{name} import TritonPythonModel as TritonPythonModel\n"
        )
        assert (REPOSITORY / "python_backend" / "triton" / f"{name}.py").is_file()

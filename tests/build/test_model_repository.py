"""Every generated config.pbtxt says what its spec says, and the committed rendering is current."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from engine_build.triton.__main__ import LAYOUTS, RENDERINGS, render_all
from engine_build.triton.pbtxt import to_pbtxt
from engine_build.triton.specs import model_specs
from groundserve.profiles import PROFILES
from tests.reference import REPOSITORY

COMMITTED = REPOSITORY / "triton_models"
SPECS = [
    pytest.param(spec, id=f"{name}-{spec.name}")
    for name, one in RENDERINGS.items()
    for spec in model_specs(one.layout, one.family, one.model)
]
# Layout -> the models whose instances are on the GPU; of those, the ones that are Python models.
ON_GPU = {
    "cpu": set(),
    "torch": set(),
    "torch-cuda": {"video_features", "vision_encoder", "grounding"},
    "gpu": {"video_features", "video_decode", "vision_encoder", "grounding"},
    "gpu-trt": {"video_features", "video_decode", "vision_encoder", "grounding"},
}
PLANS = {"gpu", "gpu-trt"}


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def parse(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def committed(layout: str, model: str) -> ModelConfig:
    return parse((COMMITTED / layout / model / "config.pbtxt").read_text())


def test_committed_rendering_is_current(tmp_path):
    render_all(tmp_path)
    assert files(tmp_path) == files(COMMITTED), "run: python -m engine_build.triton"


def test_every_profile_is_rendered():
    assert {layout.target.profile for layout in LAYOUTS.values()} == set(PROFILES)
    assert {path.name for path in COMMITTED.iterdir()} == set(RENDERINGS)
    assert set(LAYOUTS) == set(ON_GPU)


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
        assert config.backend == spec.backend
        (group,) = config.instance_group
        assert group.count == spec.num_instances


@pytest.mark.parametrize("layout", LAYOUTS)
def test_instances_are_where_the_layout_says(layout):
    for path in (COMMITTED / layout).glob("*/config.pbtxt"):
        config = parse(path.read_text())
        if config.platform == "ensemble":
            continue
        (group,) = config.instance_group
        on_gpu = config.name in ON_GPU[layout]
        if on_gpu:
            assert (group.kind, list(group.gpus)) == (ModelInstanceGroup.KIND_GPU, [0])
        else:
            assert (group.kind, list(group.gpus)) == (ModelInstanceGroup.KIND_CPU, [])
        # The server would copy a Python model's inputs to host memory where this is not "no".
        takes_gpu_tensors = on_gpu and config.backend == "python"
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        assert parameters.get("FORCE_CPU_ONLY_INPUT_TENSORS") == (
            "no" if takes_gpu_tensors else None
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_have_one_type_all_the_way(layout):
    wanted = DataType.TYPE_FP32 if layout in ("cpu", "torch") else DataType.TYPE_FP16
    (produced,) = committed(layout, "vision_encoder").output
    (handed_on, *_) = committed(layout, "video_features").output
    (taken, *_) = committed(layout, "grounding").input
    for tensor in (produced, handed_on, taken):
        assert (tensor.name, tensor.data_type) == ("FEATURES", wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_decoder_is_told_what_it_decodes_and_says_what_decoded(layout):
    config = committed(layout, "video_decode")
    stream = next(tensor for tensor in config.input if tensor.name == "STREAM")
    assert (stream.data_type, list(stream.dims)) == (DataType.TYPE_STRING, [1])
    assert not stream.optional
    decoder = next(tensor for tensor in config.output if tensor.name == "DECODER")
    assert (decoder.data_type, list(decoder.dims)) == (DataType.TYPE_STRING, [1])
    (group,) = config.instance_group
    assert group.count == 2
    num_threads = config.parameters["num_threads"].string_value
    assert num_threads == ("7" if layout in PLANS else "")


@pytest.mark.parametrize("layout", sorted(PLANS))
def test_vision_plan_is_run_by_the_server_itself(layout):
    config = committed(layout, "vision_encoder")
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert config.max_batch_size == 64
    # Preferred sizes are for engines with a profile a size; graphs miss most grids.
    assert not config.dynamic_batching.preferred_batch_size
    assert not config.optimization.cuda.graphs
    (warmup,) = config.model_warmup
    assert warmup.batch_size == 64
    shapes = {name: tuple(sample.dims) for name, sample in warmup.inputs.items()}
    assert shapes == {"PIXELS": (384, 384, 3), "POOL": (5, 27)}
    types = {tensor.name: tensor.data_type for tensor in config.input}
    assert {name: sample.data_type for name, sample in warmup.inputs.items()} == types
    assert not (COMMITTED / layout / "vision_encoder" / "1" / "model.py").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_plans_are_warmed_up_by_the_server(layout):
    warmed = {
        path.parent.name
        for path in (COMMITTED / layout).glob("*/config.pbtxt")
        if parse(path.read_text()).model_warmup
    }
    assert warmed == ({"vision_encoder"} if layout in PLANS else set())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_let_in_finds_a_place_in_every_queue(layout):
    """Those whom the door lets wait fit into the first queue; the second has no bound.

    With a policy of any kind Triton wakes who waits for `grounding` every half second only.
    """
    first, videos, questions = (
        committed(layout, name) for name in ("admission", "video_features", "grounding")
    )
    assert not questions.HasField("dynamic_batching")
    policy = videos.dynamic_batching.default_queue_policy
    assert int(first.parameters["max_waiting"].string_value) < policy.max_queue_size
    assert policy.timeout_action == policy.REJECT
    assert policy.allow_timeout_override
    assert policy.default_timeout_microseconds == 60_000_000


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sixteen_clients_may_all_wait(layout):
    """While one asks, the 15 others wait at most."""
    assert int(committed(layout, "admission").parameters["max_waiting"].string_value) > 15


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_ensemble_is_connected(rendering):
    """Each step takes tensors that the request or an earlier step gives, with the same type."""
    configs = {
        path.parent.name: parse(path.read_text())
        for path in (COMMITTED / rendering).glob("*/config.pbtxt")
    }
    ensemble = configs[RENDERINGS[rendering].family.name]
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


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_model_py_is_one_import(rendering):
    models = list((COMMITTED / rendering).glob("*/1/model.py"))
    num_of_head = {"frames": 2, "text": 1}[RENDERINGS[rendering].family.head]
    assert len(models) == (3 if rendering in PLANS else 4) + num_of_head
    for path in models:
        name = path.parent.parent.name
        assert path.read_text() == (
            f"from python_backend.triton.{name} import TritonPythonModel as TritonPythonModel\n"
        )
        assert (REPOSITORY / "python_backend" / "triton" / f"{name}.py").is_file()


@pytest.mark.parametrize("rendering", [name for name in RENDERINGS if name.startswith("vtimellm")])
def test_head_of_text_takes_what_a_video_became_and_answers_each_question(rendering):
    config = committed(rendering, "generation")
    assert [(one.name, one.optional) for one in config.input] == [
        ("FEATURES", False),
        ("QUERY", True),
        ("OPTIONS", True),
        ("STAGE_INFO", False),
    ]
    given = committed(rendering, "video_features").output[0]
    assert (config.input[0].data_type, list(config.input[0].dims)) == (
        given.data_type,
        [-1, -1, 768],
    )
    # As for `grounding`: with a policy Triton would wake who waits every half second only.
    assert not config.HasField("dynamic_batching")
    public = committed(rendering, "vtimellm")
    shapes = {one.name: (DataType.Name(one.data_type), list(one.dims)) for one in public.output}
    assert shapes == {
        "FRAME_INDICES": ("TYPE_INT64", [-1]),
        "PTS_SECONDS": ("TYPE_FP64", [-1]),
        "ANSWER": ("TYPE_STRING", [-1]),
        "TOKEN_IDS": ("TYPE_INT32", [-1]),
        "TOKEN_OFFSETS": ("TYPE_INT64", [-1]),
        "MOMENTS": ("TYPE_FP64", [-1, 3]),
        "MOMENT_OFFSETS": ("TYPE_INT64", [-1]),
        "MOMENT_TEXTS": ("TYPE_STRING", [-1]),
        "PROMPT_TOKEN_IDS": ("TYPE_INT32", [-1]),
        "PROMPT_OFFSETS": ("TYPE_INT64", [-1]),
        "INFO": ("TYPE_STRING", [1]),
    }

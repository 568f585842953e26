from __future__ import annotations

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from engine_build.triton.model_spec import (
    DynamicBatchingSpec,
    QueuePolicySpec,
    TensorSpec,
    TritonModelSpec,
    WarmupSpec,
)
from engine_build.triton.pbtxt import to_pbtxt

IMAGE = TensorSpec("IMAGE", "UINT8", (-1, 3))
SCORE = TensorSpec("SCORE", "FP32", (1,))


def parsed(spec: TritonModelSpec) -> ModelConfig:
    return text_format.Parse(to_pbtxt(spec), ModelConfig())


def test_batch_size_of_zero_is_written():
    """Protobuf's text leaves out fields that equal 0."""
    spec = TritonModelSpec(name="a", inputs=(IMAGE,), outputs=(SCORE,))
    assert to_pbtxt(spec).startswith("max_batch_size: 0\n")
    assert parsed(spec).max_batch_size == 0


def test_model_without_queue_has_no_dynamic_batching():
    spec = TritonModelSpec(name="a", inputs=(IMAGE,), outputs=(SCORE,))
    assert not parsed(spec).HasField("dynamic_batching")


def test_dynamic_batching_without_policy_has_an_unbounded_queue():
    batching = DynamicBatchingSpec(max_queue_delay_microseconds=500)
    config = parsed(
        TritonModelSpec(
            name="a",
            inputs=(IMAGE,),
            outputs=(SCORE,),
            max_batch_size=8,
            dynamic_batching=batching,
        )
    )
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert not config.dynamic_batching.HasField("default_queue_policy")


def test_queue_policy_rejects_and_a_request_may_wait_less():
    policy = QueuePolicySpec(max_queue_size=3, default_timeout_microseconds=7)
    batching = DynamicBatchingSpec(default_queue_policy=policy)
    config = parsed(
        TritonModelSpec(name="a", inputs=(IMAGE,), outputs=(SCORE,), dynamic_batching=batching)
    )
    written = config.dynamic_batching.default_queue_policy
    assert (written.max_queue_size, written.default_timeout_microseconds) == (3, 7)
    assert written.timeout_action == written.REJECT
    assert written.allow_timeout_override


def test_ensemble_connects_tensors_of_equal_name():
    step = TritonModelSpec(name="step", inputs=(IMAGE,), outputs=(SCORE,))
    config = parsed(TritonModelSpec(name="all", inputs=(IMAGE,), outputs=(SCORE,), steps=(step,)))
    (written,) = config.ensemble_scheduling.step
    assert written.model_name == "step"
    assert dict(written.input_map) == {"IMAGE": "IMAGE"}
    assert dict(written.output_map) == {"SCORE": "SCORE"}


def test_unknown_type_fails_here():
    spec = TritonModelSpec(name="a", inputs=(TensorSpec("IMAGE", "FLOAT", (1,)),), outputs=(SCORE,))
    with pytest.raises(ValueError, match="TYPE_FLOAT"):
        to_pbtxt(spec)


def test_python_model_on_the_gpu_takes_its_inputs_there():
    config = parsed(
        TritonModelSpec(
            name="a",
            inputs=(IMAGE,),
            outputs=(SCORE,),
            device="cuda",
            num_instances=3,
            parameters={"num_threads": "4"},
        )
    )
    (group,) = config.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (3, ModelInstanceGroup.KIND_GPU, [0])
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "num_threads": "4",
    }


def test_plan_has_its_file_and_a_warmup_of_zeros():
    config = parsed(
        TritonModelSpec(
            name="a",
            inputs=(IMAGE,),
            outputs=(SCORE,),
            max_batch_size=8,
            backend="tensorrt",
            device="cuda",
            warmup=WarmupSpec(batch_size=8, dims={"IMAGE": (5, 3)}),
        )
    )
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert not config.parameters
    (warmup,) = config.model_warmup
    assert (warmup.batch_size, warmup.count) == (8, 1)
    sample = warmup.inputs["IMAGE"]
    assert (DataType.Name(sample.data_type), list(sample.dims)) == ("TYPE_UINT8", [5, 3])
    assert sample.zero_data

"""A model's spec as the text of its config.pbtxt."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from engine_build.triton.model_spec import (
    PLAN_NAME,
    DynamicBatchingSpec,
    TensorSpec,
    TritonModelSpec,
    WarmupSpec,
)


def to_pbtxt(spec: TritonModelSpec) -> str:
    """Render config.pbtxt; an unknown type fails here, not when the server starts."""
    config = ModelConfig(name=spec.name, max_batch_size=spec.max_batch_size)
    for tensor in spec.inputs:
        config.input.add(
            name=tensor.name,
            data_type=DataType.Value(f"TYPE_{tensor.data_type}"),
            dims=tensor.dims,
            optional=tensor.optional,
        )
    for tensor in spec.outputs:
        config.output.add(
            name=tensor.name,
            data_type=DataType.Value(f"TYPE_{tensor.data_type}"),
            dims=tensor.dims,
        )
    if spec.is_ensemble:
        _set_steps(config, spec.steps)
    else:
        config.backend = spec.backend
        _set_instances(config, spec)
        for name, value in _parameters(spec).items():
            config.parameters[name].string_value = value
    if spec.is_decoupled:
        config.model_transaction_policy.decoupled = True
    if spec.backend == "tensorrt":
        config.default_model_filename = PLAN_NAME
    if spec.warmup is not None:
        _set_warmup(config, spec.inputs, spec.warmup)
    if spec.dynamic_batching is not None:
        _set_dynamic_batching(config, spec.dynamic_batching)
    text: str = text_format.MessageToString(config)
    # MessageToString leaves out fields equal to 0; this one is part of what a reader looks for.
    return text if spec.max_batch_size else f"max_batch_size: 0\n{text}"


def _set_instances(config: ModelConfig, spec: TritonModelSpec) -> None:
    if spec.device == "cuda":
        config.instance_group.add(
            count=spec.num_instances, kind=ModelInstanceGroup.KIND_GPU, gpus=[0]
        )
    else:
        config.instance_group.add(count=spec.num_instances, kind=ModelInstanceGroup.KIND_CPU)


def _parameters(spec: TritonModelSpec) -> dict[str, str]:
    if spec.backend == "python" and spec.device == "cuda":
        # Without it the server copies every input to host memory first.
        return {"FORCE_CPU_ONLY_INPUT_TENSORS": "no", **spec.parameters}
    return spec.parameters


def _set_warmup(config: ModelConfig, inputs: tuple[TensorSpec, ...], warmup: WarmupSpec) -> None:
    added = config.model_warmup.add(name="full_chunk", batch_size=warmup.batch_size, count=1)
    for tensor in inputs:
        sample = added.inputs[tensor.name]
        sample.data_type = DataType.Value(f"TYPE_{tensor.data_type}")
        sample.dims.extend(warmup.dims[tensor.name])
        sample.zero_data = True


def _set_steps(config: ModelConfig, steps: tuple[TritonModelSpec, ...]) -> None:
    config.platform = "ensemble"
    for step in steps:
        # -1: the latest version, of which there is one.
        added = config.ensemble_scheduling.step.add(model_name=step.name, model_version=-1)
        added.input_map.update({tensor.name: tensor.name for tensor in step.inputs})
        added.output_map.update({tensor.name: tensor.name for tensor in step.outputs})


def _set_dynamic_batching(config: ModelConfig, spec: DynamicBatchingSpec) -> None:
    batching = config.dynamic_batching
    batching.max_queue_delay_microseconds = spec.max_queue_delay_microseconds
    if spec.default_queue_policy is not None:
        policy = batching.default_queue_policy
        # The other choice, DELAY, would run the request after its time-out all the same.
        policy.timeout_action = policy.REJECT
        policy.max_queue_size = spec.default_queue_policy.max_queue_size
        policy.default_timeout_microseconds = spec.default_queue_policy.default_timeout_microseconds
        policy.allow_timeout_override = True

"""A model's spec as the text of its config.pbtxt."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from engine_build.triton.model_spec import (
    PLAN_NAME,
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
    if spec.max_queue_delay_microseconds is not None:
        config.dynamic_batching.max_queue_delay_microseconds = spec.max_queue_delay_microseconds
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

"""The model `tensorrt_llm`: a decoder that generates, run by Triton's own `tensorrtllm` backend.

Only what a request of ours has is declared; Triton refuses any other tensor. Of each tensor name,
type and shape are the backend's own, and of each parameter its name.

Source: NVIDIA/TensorRT-LLM, `triton_backend/all_models/inflight_batcher_llm/tensorrt_llm/
config.pbtxt` 2a9abd9, `triton_backend/inflight_batcher_llm/src/model_state.cc` 5cdd692,
`model_instance_state.cc` c8c6df0, `utils.cc` c8c6df0.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from engine_build.trtllm.generation import GenerationLimits
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.profiles import Precision

MODEL_NAME = "tensorrt_llm"
CACHE_MEMORY = 0.5
"""Part of the free memory for keys and values: the vision plan and the frames before it, which come
later, find theirs in the rest. Not measured."""
_TABLE_TYPES = {"fp16": DataType.TYPE_FP16, "bf16": DataType.TYPE_BF16}
# Of one value a sequence: the backend gets them without the dimension of 1.
_SCALARS = {
    "input_lengths": DataType.TYPE_INT32,
    "request_output_len": DataType.TYPE_INT32,
    "end_id": DataType.TYPE_INT32,
    "pad_id": DataType.TYPE_INT32,
    "prompt_vocab_size": DataType.TYPE_INT32,
    "runtime_top_k": DataType.TYPE_INT32,
    "runtime_top_p": DataType.TYPE_FP32,
    "temperature": DataType.TYPE_FP32,
    "seed": DataType.TYPE_UINT64,
    "streaming": DataType.TYPE_BOOL,
    "stop": DataType.TYPE_BOOL,
}
_REQUIRED = ("input_lengths", "request_output_len")
_PARAMETERS = {
    "gpt_model_type": "inflight_fused_batching",
    # A request that was let in is never set back for another one: answers are short.
    "batch_scheduler_policy": "guaranteed_no_evict",
    # Keys and values of a video's prefix stay for the next question on it. Which video a row is of
    # says `prompt_table_extra_ids`, without which the backend refuses a prompt table then.
    "enable_kv_cache_reuse": "true",
    "exclude_input_in_output": "true",
    # Inputs that lie on the GPU stay there: the prompt table does.
    "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
    # Read without a default. Empty: answers are not held to a grammar.
    "tokenizer_dir": "",
    "xgrammar_tokenizer_info_path": "",
    "guided_decoding_backend": "",
}


def executor_config(
    engine_dir: Path, limits: GenerationLimits, *, precision: Precision, cache_memory: float
) -> str:
    """Return the model's config.pbtxt.

    Args:
        engine_dir: Directory of the engine: the backend opens it by that path. A relative one is
            looked for from where the server was started, which `groundserve serve` does in the
            engine directory.
        limits: What it was built for.
        precision: What it was built in, in which its prompt table comes.
        cache_memory: Part of the GPU's memory that is free when the engine has been read, in
            (0, 1), for keys and values. The vision encoder's plan must have its own by then, or
            find it in the rest.

    Raises:
        InvalidRequestError: The part is none.
        UnsupportedError: The precision is another one.
    """
    if precision not in _TABLE_TYPES:
        raise UnsupportedError(
            f"precision must be one of {', '.join(_TABLE_TYPES)} of an engine that generates, got "
            f"{precision}"
        )
    if not 0 < cache_memory < 1:
        raise InvalidRequestError(f"cache_memory must lie in (0, 1), got {cache_memory}")
    config = ModelConfig(
        name=MODEL_NAME,
        backend="tensorrtllm",
        # Of the server, which hands every request on at once; the engine joins them by itself.
        max_batch_size=limits.max_batch_size,
    )
    # Without it the backend streams nothing, and a deadline would be looked at after the answer.
    config.model_transaction_policy.decoupled = True
    config.dynamic_batching.SetInParent()
    _add_vector(config, "input_ids", DataType.TYPE_INT32, (-1,))
    for name, data_type in _SCALARS.items():
        added = config.input.add(
            name=name, data_type=data_type, dims=[1], optional=name not in _REQUIRED
        )
        added.reshape.SetInParent()
    _add_vector(config, "prompt_embedding_table", _TABLE_TYPES[precision], (-1, -1))
    _add_vector(config, "prompt_table_extra_ids", DataType.TYPE_UINT64, (-1,))
    config.output.add(name="output_ids", data_type=DataType.TYPE_INT32, dims=[-1, -1])
    config.output.add(name="sequence_length", data_type=DataType.TYPE_INT32, dims=[-1])
    # The backend takes the GPU by itself.
    config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_CPU)
    parameters = {
        **_PARAMETERS,
        "gpt_model_path": str(engine_dir),
        "max_beam_width": "1",
        "kv_cache_free_gpu_mem_fraction": repr(cache_memory),
    }
    for name, value in parameters.items():
        config.parameters[name].string_value = value
    text: str = text_format.MessageToString(config)
    return text


def _add_vector(config: ModelConfig, name: str, data_type: int, dims: tuple[int, ...]) -> None:
    config.input.add(
        name=name, data_type=data_type, dims=dims, allow_ragged_batch=True, optional=True
    )

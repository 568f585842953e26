"""The decoder as a TensorRT-LLM engine, run through its `Session`.

Shape letters: S tokens of one sequence, N tokens of all sequences of a pass, B sequences of a
pass, D decoder width.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundserve.errors import (
    EngineMismatchError,
    GroundserveError,
    InvalidRequestError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.runtime.gpu import MPI_ENVIRONMENT, current_gpu_arch
from python_backend.arrays import concatenate

_ARCHITECTURE_END = "ForGrounding"  # of what scores frames, in any family
_ENGINE_NAME = "rank0.engine"
_CONFIG_NAME = "config.json"
_REBUILD = "rebuild the engine directory with: groundserve build --profile gpu"
_INPUTS = {
    "inputs_embeds",
    "context_lengths",
    "host_context_lengths",
    "host_request_types",
    "host_max_attention_window_sizes",
    "host_sink_token_length",
    "host_runtime_perf_knobs",
    "host_context_progress",
}
_OUTPUT = "frame_token_scores"
# TensorRT-LLM's input has this size; all are -1 here, knob 1 would have attention accumulate in
# float32.
_NUM_PERF_KNOBS = 16


class CudaGpu:
    """The current CUDA device, with a stream of its own."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        # TensorRT adds synchronisation of its own on the default stream.
        self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call] # torch's own

    @property
    def arch(self) -> str:
        """Its architecture, "sm_90"."""
        return current_gpu_arch() or "none"

    def run(self, enqueue: Callable[[int], bool]) -> bool:
        """Call with a stream that waits for earlier work, and return once its work is done."""
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        enqueued = enqueue(self._stream.cuda_stream)
        self._stream.synchronize()
        return enqueued


@dataclass(frozen=True, kw_only=True)
class EngineDescription:
    """What an engine's config.json says."""

    version: str
    tensorrt_version: str
    gpu_arch: str
    dtype: str
    """Dtype of the embeddings, "bfloat16"."""
    hidden_size: int
    """D."""
    num_layers: int
    max_batch_size: int
    """Most sequences in one pass."""
    max_input_len: int
    """Most tokens of one sequence."""
    max_num_tokens: int
    """Most tokens in one pass."""

    @classmethod
    def read(cls, path: Path) -> EngineDescription:
        """Read config.json; EngineMismatchError where it is of another kind of engine."""
        try:
            config = json.loads(path.read_text("utf-8"))
            pretrained, build = config["pretrained_config"], config["build_config"]
            plugins, extra = build["plugin_config"], config["groundserve"]
            architecture = str(pretrained["architecture"])
            # What the code below relies on: one GPU, no cache (every token is context), packed
            # sequences, and the attention kernel that takes them.
            settings = {
                "world_size": (pretrained["mapping"]["world_size"], 1),
                # In capitals or not: the enum became a string of small letters
                # (NVIDIA/TensorRT-LLM 1883620, `llmapi/kv_cache_type.py`).
                "kv_cache_type": (str(build["kv_cache_type"]).upper(), "DISABLED"),
                "remove_input_padding": (plugins["remove_input_padding"], True),
                "context_fmha": (plugins["context_fmha"], True),
            }
            description = cls(
                version=config["version"],
                tensorrt_version=extra["tensorrt"],
                gpu_arch=extra["gpu_arch"],
                dtype=pretrained["dtype"],
                hidden_size=pretrained["hidden_size"],
                num_layers=pretrained["num_hidden_layers"],
                max_batch_size=build["max_batch_size"],
                max_input_len=build["max_input_len"],
                max_num_tokens=build["max_num_tokens"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineMismatchError(
                f"trtllm/{path.name} is missing or not what groundserve writes; {_REBUILD}"
            ) from error
        if not architecture.endswith(_ARCHITECTURE_END):
            raise EngineMismatchError(
                f"trtllm/{path.name}: architecture must end in {_ARCHITECTURE_END!r}, "
                f"got {architecture!r}; {_REBUILD}"
            )
        for name, (value, expected) in settings.items():
            if value != expected:
                raise EngineMismatchError(
                    f"trtllm/{path.name}: {name} must be {expected!r}, got {value!r}; {_REBUILD}"
                )
        return description


class TensorRTLLMTokenScorer:
    """Runs `trtllm/rank0.engine`; see `python_backend.ground.base.TokenScorer`.

    The engine has one execution context, so calls from several threads wait for each other.
    """

    def __init__(self, engine_dir: Path, *, gpu: CudaGpu | None = None) -> None:
        """Load `config.json` and `rank0.engine` of a directory."""
        self._description = EngineDescription.read(engine_dir / _CONFIG_NAME)
        session_class, tensorrt = _import_runtime(self._description)
        self._gpu = gpu or CudaGpu()
        _check("GPU", self._gpu.arch, self._description.gpu_arch)
        self._dtype: torch.dtype = getattr(torch, self._description.dtype)
        self._session = _open_session(session_class, engine_dir / _ENGINE_NAME)
        _check_bindings(self._session.engine, tensorrt, self._description)
        self._lock = threading.Lock()
        # The plugin reads these on the host, so they stay in host memory, whatever the device.
        self._host_constants = {
            "host_max_attention_window_sizes": torch.full(
                (self._description.num_layers,), self._description.max_input_len, dtype=torch.int32
            ),
            # No token is kept as a sink.
            "host_sink_token_length": torch.zeros(1, dtype=torch.int32),
            "host_runtime_perf_knobs": torch.full((_NUM_PERF_KNOBS,), -1, dtype=torch.int64),
            "host_context_progress": torch.zeros(1, dtype=torch.int64),
        }

    @property
    def max_num_tokens(self) -> int:
        """Implement `TokenScorer.max_num_tokens`."""
        return self._description.max_num_tokens

    def score(self, inputs_embeds: Sequence[Tensor]) -> list[Tensor]:
        """Implement `TokenScorer.score`; more than one pass can hold is scored in several."""
        for embeds in inputs_embeds:
            self._check_sequence(embeds)
        scores: list[Tensor] = []
        with self._lock:
            for one_pass in self._passes(inputs_embeds):
                scores += self._run(one_pass)
        return scores

    def _check_sequence(self, embeds: Tensor) -> None:
        length, width = embeds.shape
        limits = self._description
        if not 1 <= length <= limits.max_input_len:
            raise InvalidRequestError(
                f"a sequence must have 1..{limits.max_input_len} visual and text tokens, "
                f"got {length}; shorten the question or ask for fewer frames"
            )
        if embeds.dtype != self._dtype or width != limits.hidden_size:
            raise EngineMismatchError(
                f"the engine takes {self._dtype} of width {limits.hidden_size}, the embeddings "
                f"are {embeds.dtype} of width {width}; {_REBUILD}"
            )

    def _passes(self, inputs_embeds: Sequence[Tensor]) -> list[list[Tensor]]:
        """Split into passes within the engine's limits, in order."""
        passes: list[list[Tensor]] = []
        num_tokens = 0
        for embeds in inputs_embeds:
            num_tokens += len(embeds)
            if (
                not passes
                or len(passes[-1]) == self._description.max_batch_size
                or num_tokens > self._description.max_num_tokens
            ):
                passes.append([])
                num_tokens = len(embeds)
            passes[-1].append(embeds)
        return passes

    def _run(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        lengths = [len(sequence) for sequence in sequences]
        host_lengths = torch.tensor(lengths, dtype=torch.int32)
        inputs = {
            # (N, D); a sequence alone is not copied
            "inputs_embeds": concatenate(sequences),
            "context_lengths": host_lengths.to(self._gpu.device),
            "host_context_lengths": host_lengths,
            "host_request_types": torch.zeros_like(host_lengths),  # 0: context
            **self._host_constants,
        }
        scores = torch.empty((sum(lengths), 1), dtype=torch.float32, device=self._gpu.device)
        # N changes from pass to pass, and the session keeps the shapes it was told.
        self._session.set_shapes(inputs)

        def enqueue(stream: int) -> bool:
            return bool(self._session.run(inputs, {_OUTPUT: scores}, stream))

        # Returns only when the pass is done: nothing it reads may be freed or written before.
        if not self._gpu.run(enqueue):
            raise GroundserveError("TensorRT-LLM could not enqueue a pass; its log says why")
        # (N, 1) -> one (S,) a sequence
        return list(torch.split(scores.squeeze(1), lengths))


def _import_runtime(description: EngineDescription) -> tuple[Any, Any]:
    """Return `Session` and `tensorrt` of the versions that built the engine."""
    for name, value in MPI_ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # read by the import below
    try:
        import tensorrt
        import tensorrt_llm
        from tensorrt_llm.runtime import Session
    except ImportError as error:
        raise UnsupportedError(
            f"this engine needs TensorRT-LLM {description.version}, which is not installed; run "
            "it in the container that docs/gpu.md names"
        ) from error
    _check("TensorRT-LLM", tensorrt_llm.__version__, description.version)
    _check("TensorRT", tensorrt.__version__, description.tensorrt_version)
    return Session, tensorrt


def _open_session(session_class: Any, path: Path) -> Any:
    try:
        serialized = path.read_bytes()
    except OSError as error:
        raise EngineMismatchError(
            f"trtllm/{path.name} is missing or unreadable; {_REBUILD}"
        ) from error
    try:
        # Needs the plugins that importing tensorrt_llm has registered.
        return session_class.from_serialized_engine(serialized)
    except AttributeError as error:
        # TensorRT logs why and returns None, on which the session then calls a method: this one
        # where there is an engine, but no room for its context.
        if error.name == "set_optimization_profile_async":
            raise UnavailableError(
                f"the GPU has no room for the scratch memory of trtllm/{path.name}; free some of it"
            ) from error
        raise EngineMismatchError(
            f"trtllm/{path.name} cannot be deserialised, the log above says why; {_REBUILD}"
        ) from error


def _check(what: str, found: str, built_for: str) -> None:
    if found != built_for:
        raise EngineMismatchError(
            f"the TensorRT-LLM engine was built for {what} {built_for}, this is {found}; {_REBUILD}"
        )


def _check_bindings(engine: Any, tensorrt: Any, description: EngineDescription) -> None:
    """Compare the engine's own tensors with its config."""

    def check(what: str, found: object, expected: object) -> None:
        if found != expected:
            raise EngineMismatchError(
                f"trtllm/{_ENGINE_NAME}: {what} must be {expected}, got {found}; {_REBUILD}"
            )

    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    check("tensors", sorted(names), sorted([*_INPUTS, _OUTPUT]))
    check(
        "dtypes",
        [engine.get_tensor_dtype(name) for name in ("inputs_embeds", _OUTPUT)],
        [getattr(tensorrt, description.dtype), tensorrt.float32],
    )
    max_shapes = {
        "inputs_embeds": [description.max_num_tokens, description.hidden_size],
        "context_lengths": [description.max_batch_size],
        "host_max_attention_window_sizes": [description.num_layers],
    }
    for name, expected in max_shapes.items():
        _, _, largest = engine.get_tensor_profile_shape(name, 0)
        check(f"shape of {name}", list(largest), expected)

"""The decoder as a TensorRT-LLM engine, run through its `Session`.

Shape letters: S tokens, D decoder width.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
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

_ENGINE_NAME = "rank0.engine"
_CONFIG_NAME = "config.json"
_REBUILD = "rebuild the engine directory with: groundserve build --profile gpu-trtllm"
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
    max_input_len: int
    """Most tokens of a sequence."""

    @classmethod
    def read(cls, path: Path) -> EngineDescription:
        """Read config.json; EngineMismatchError where it is not what a build writes."""
        try:
            config = json.loads(path.read_text("utf-8"))
            pretrained, build = config["pretrained_config"], config["build_config"]
            return cls(
                version=config["version"],
                tensorrt_version=config["groundserve"]["tensorrt"],
                gpu_arch=config["groundserve"]["gpu_arch"],
                dtype=pretrained["dtype"],
                hidden_size=pretrained["hidden_size"],
                num_layers=pretrained["num_hidden_layers"],
                max_input_len=build["max_input_len"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineMismatchError(
                f"trtllm/{path.name} is missing or not what groundserve writes; {_REBUILD}"
            ) from error


class TensorRTLLMTokenScorer:
    """Runs `trtllm/rank0.engine`; see `python_backend.ground.base.TokenScorer`.

    The engine has one execution context, so calls from several threads wait for each other.
    """

    def __init__(self, engine_dir: Path, *, gpu: CudaGpu | None = None) -> None:
        """Load `config.json` and `rank0.engine` of a directory."""
        self._description = EngineDescription.read(engine_dir / _CONFIG_NAME)
        session_class = _import_runtime(self._description)
        self._gpu = gpu or CudaGpu()
        _check("GPU", self._gpu.arch, self._description.gpu_arch)
        self._dtype: torch.dtype = getattr(torch, self._description.dtype)
        self._session = _open_session(session_class, engine_dir / _ENGINE_NAME)
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

    def score(self, inputs_embeds: Tensor) -> Tensor:
        """Implement `TokenScorer.score`."""
        length, width = inputs_embeds.shape
        limits = self._description
        if not 1 <= length <= limits.max_input_len:
            raise InvalidRequestError(
                f"a sequence must have 1..{limits.max_input_len} visual and text tokens, "
                f"got {length}; shorten the question or ask for fewer frames"
            )
        if inputs_embeds.dtype != self._dtype or width != limits.hidden_size:
            raise EngineMismatchError(
                f"the engine takes {self._dtype} of width {limits.hidden_size}, the embeddings "
                f"are {inputs_embeds.dtype} of width {width}; {_REBUILD}"
            )
        host_length = torch.tensor([length], dtype=torch.int32)
        inputs = {
            "inputs_embeds": inputs_embeds,
            "context_lengths": host_length.to(self._gpu.device),
            "host_context_lengths": host_length,
            "host_request_types": torch.zeros_like(host_length),  # 0: context
            **self._host_constants,
        }
        scores = torch.empty((length, 1), dtype=torch.float32, device=self._gpu.device)

        def enqueue(stream: int) -> bool:
            return bool(self._session.run(inputs, {_OUTPUT: scores}, stream))

        with self._lock:
            # S changes from pass to pass, and the session keeps the shapes it was told.
            self._session.set_shapes(inputs)
            # Returns only when the pass is done: nothing it reads may be freed or written before.
            if not self._gpu.run(enqueue):
                raise GroundserveError("TensorRT-LLM could not enqueue a pass; its log says why")
        return scores.squeeze(1)


def _import_runtime(description: EngineDescription) -> Any:
    """Return `Session` of the versions that built the engine."""
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
    return Session


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

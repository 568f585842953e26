"""Run a TensorRT plan on PyTorch's tensors and stream."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.errors import EngineMismatchError, InvalidRequestError, UnavailableError


class PlanRunner:
    """One plan with one execution context, on the GPU that PyTorch uses.

    To its caller a run behaves like an operator of PyTorch: it is enqueued behind the work of the
    current stream, what follows on that stream sees its outputs, and the host waits for nothing.
    It has a stream of its own between the two, because TensorRT synchronises the host when given
    the default one, and because runs that share a context's scratch memory must not overlap.
    """

    def __init__(self, path: Path, target: TensorRTTarget) -> None:
        """Open a plan."""
        library = target.load()
        target.check_gpu()
        self._trt = library.module
        # Kept: the runtime and the engine write to it for as long as they live.
        self._log = library.module.Logger(library.module.Logger.WARNING)
        self._engine = self._deserialize(path, library.name)
        context = library.create_context(self._engine)
        # TensorRT returns None and logs why, it does not raise.
        if context is None:
            raise UnavailableError(
                f"the GPU has no room for the scratch memory of {path.name}; free some of it"
            )
        # A plan's names are for who inspects it; as built, each run would announce them all.
        context.nvtx_verbosity = self._trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        self._context: Any = context
        self._lock = threading.Lock()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch leaves it untyped
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = self._trt.TensorIOMode.INPUT
        self._inputs = [n for n in names if self._engine.get_tensor_mode(n) == is_input]
        self._outputs = [n for n in names if n not in self._inputs]

    @property
    def device(self) -> torch.device:
        """Where inputs must lie and outputs will."""
        return torch.device("cuda")

    def max_shape(self, name: str) -> tuple[int, ...]:
        """Return the largest shape of an input."""
        # (smallest, optimal, largest) of the one profile that our plans have.
        return tuple(self._engine.get_tensor_profile_shape(name, 0)[2])

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of an input or output."""
        return _torch_dtype(self._trt, self._engine.get_tensor_dtype(name))

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Enqueue one run; returns every output by name, newly allocated on the GPU.

        Inputs are contiguous, on the GPU, of the plan's dtype. Work on the current stream may free
        or overwrite them as soon as this returns.
        """
        self._check(inputs)
        # Shapes, addresses and the enqueued run belong together, and the context has one set of
        # them.
        with self._lock:
            for name, tensor in inputs.items():
                if not self._context.set_input_shape(name, tuple(tensor.shape)):
                    raise self._refused(f"did not take {name} of shape {tuple(tensor.shape)}")
                self._set_address(name, tensor)
            # Output shapes are known only now that the input shapes are set.
            outputs = {
                name: torch.empty(
                    tuple(self._context.get_tensor_shape(name)),
                    dtype=self.dtype(name),
                    device="cuda",
                )
                for name in self._outputs
            }
            for name, tensor in outputs.items():
                self._set_address(name, tensor)
            if not self._enqueue():
                raise self._refused("did not run its plan")
        return outputs

    def _set_address(self, name: str, tensor: Tensor) -> None:
        # Refused (an address must be a multiple of 256), that of the run before would stay.
        if not self._context.set_tensor_address(name, tensor.data_ptr()):
            raise self._refused(f"did not take the memory of {name}")

    def _refused(self, what: str) -> EngineMismatchError:
        return EngineMismatchError(
            f"{self._trt.__name__} {self._trt.__version__} {what}; its log says why; rebuild the "
            "engine directory with: groundserve build"
        )

    def _enqueue(self) -> bool:
        # Every tensor belongs to the current stream, which goes on only after the run has ended:
        # memory that is freed from now on is not reused before that.
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        done = self._context.execute_async_v3(self._stream.cuda_stream)
        current.wait_stream(self._stream)
        return bool(done)

    def _deserialize(self, path: Path, library: str) -> Any:
        runtime = self._trt.Runtime(self._log)
        try:
            engine = runtime.deserialize_cuda_engine(path.read_bytes())
        except OSError as error:
            raise EngineMismatchError(
                f"{path.name} cannot be read ({error.strerror}); rebuild the engine directory "
                "with: groundserve build"
            ) from error
        if engine is None:
            raise EngineMismatchError(
                f"{path.name} is no plan that {library} {self._trt.__version__} opens here; "
                "rebuild it with: groundserve build"
            )
        # The engine uses the runtime for as long as it lives.
        self._runtime = runtime
        return engine

    def _check(self, inputs: Mapping[str, Tensor]) -> None:
        if sorted(inputs) != sorted(self._inputs):
            raise InvalidRequestError(
                f"the plan takes {', '.join(sorted(self._inputs))}, got {', '.join(sorted(inputs))}"
            )
        for name, tensor in inputs.items():
            wanted = self.dtype(name)
            if tensor.dtype != wanted or tensor.device.type != self.device.type:
                raise InvalidRequestError(
                    f"{name} must be {wanted} on cuda, got {tensor.dtype} on {tensor.device}"
                )
            low, _, high = (tuple(s) for s in self._engine.get_tensor_profile_shape(name, 0))
            fits = len(low) == tensor.dim() and all(
                a <= size <= b for a, size, b in zip(low, tensor.shape, high, strict=True)
            )
            if not fits or not tensor.is_contiguous():
                raise InvalidRequestError(
                    f"{name} must be contiguous with a shape in {low}..{high}, got "
                    f"{tuple(tensor.shape)}"
                )


def _torch_dtype(trt: Any, dtype: Any) -> torch.dtype:
    return {
        trt.DataType.FLOAT: torch.float32,
        trt.DataType.HALF: torch.float16,
        trt.DataType.BF16: torch.bfloat16,
        trt.DataType.UINT8: torch.uint8,
    }[dtype]

"""ONNX Runtime sessions as Triton instances need them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from groundserve import extras
from groundserve.errors import EngineMismatchError
from groundserve.runtime.instructions import int8_instructions

if TYPE_CHECKING:
    import onnxruntime


def open_session(path: Path, *, num_threads: int) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU, with cores / instances that run side by side as threads."""
    library = extras.onnxruntime  # not in a container that serves plans only
    options = library.SessionOptions()
    options.intra_op_num_threads = num_threads
    # Used by the parallel execution mode alone, which is not asked for.
    options.inter_op_num_threads = 1
    # Waiting threads that spin take the cores from the other models of the ensemble.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Errors only; 2, the default, warns.
    options.log_severity_level = 3
    if int8_instructions() is None:
        # On x86 without them products of uint8 and int8 are added up in 16 bits, which overflow; so
        # ONNX Runtime shall make them products of uint8, which are exact and slower. Elsewhere, and
        # for a graph in float32, this changes nothing.
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Chunks and questions vary in size; an arena would keep the largest of everything.
    options.enable_cpu_mem_arena = False
    try:
        return library.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's errors are classes of its C++ module without a public base.
    except Exception as error:
        raise EngineMismatchError(
            f"ONNX Runtime {library.__version__} cannot load {path.name}; "
            "rebuild the engine directory"
        ) from error

"""A small PyTorch re-implementation of the TensorRT-LLM 1.2.1 API that `engine_build` uses.

It computes eagerly what the real library compiles, with the semantics that decide the scores:
strong typing, packed sequences, which mask really runs, rotary tables, fused projections, the
passes that fuse the MLP's two branches, where a tensor must lie. `docs/nvidia_calls.json` says in
which file and commit each call was read.

Rounding is not imitated: every operation is computed in 64 bits and rounded once, to its result's
type, and FLOAT is held in 64 bits between input and output. So what it computes does not depend on
the processor, and in FLOAT lies one rounding, of the output, from PyTorch's model in float64.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parent
SIGNATURES: dict[str, Any] = json.loads((FOLDER / "signatures.json").read_text("utf-8"))
VERSION = "1.2.1"
TENSORRT_VERSION = "10.14.1.48"

# Module of the library -> ours.
_MODULES = {
    "tensorrt": "trt",
    "tensorrt_llm._common": "network",
    "tensorrt_llm.functional": "functional",
    "tensorrt_llm.layers": "layers",
    "tensorrt_llm.models": "models",
    "tensorrt_llm.models.modeling_utils": "models",
    "tensorrt_llm.models.qwen": "models",
    "tensorrt_llm.models.qwen.config": "models",
    "tensorrt_llm.module": "module",
    "tensorrt_llm.runtime": "runtime",
}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import tensorrt` and `import tensorrt_llm` find this package, without a model."""
    root = ModuleType("tensorrt_llm")
    root.__version__ = VERSION  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt_llm", root)
    for name, ours in _MODULES.items():
        module = importlib.import_module(f"tests.fake_tensorrt_llm.{ours}")
        monkeypatch.setitem(sys.modules, name, module)
    from tests.fake_tensorrt_llm import models

    monkeypatch.setattr(models, "MODEL_MAP", {})

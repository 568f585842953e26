"""Names in a TensorRT-LLM checkpoint."""

from __future__ import annotations

from groundserve.profiles import Precision

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "rank0.safetensors"
DTYPE_NAMES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

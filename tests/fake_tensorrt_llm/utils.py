"""Names of types, and constructors' arguments."""

from __future__ import annotations

import inspect
from typing import Any

from tests.fake_tensorrt_llm.trt import DataType

_TYPES = {
    "float32": DataType.FLOAT,
    "float16": DataType.HALF,
    "bfloat16": DataType.BF16,
    "int32": DataType.INT32,
    "int64": DataType.INT64,
}


def str_dtype_to_trt(dtype: str) -> DataType:
    """Take a name; TensorRT's own type is none."""
    found = _TYPES.get(dtype)
    assert found is not None, f"Unsupported dtype: {dtype}"
    return found


def get_init_params(obj: Any) -> dict[str, Any]:
    """Read back, from attributes of the same names, what an object was made with."""
    names = list(inspect.signature(type(obj).__init__).parameters)[1:]
    return {name: getattr(obj, name) for name in names}

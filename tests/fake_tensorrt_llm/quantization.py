"""Quantisation modes; of the ways to quantise, only "not at all"."""

from __future__ import annotations

import enum
from typing import Any


class QuantMode(enum.IntFlag):
    """The flags that decide what the attention plugin and the fused MLP do."""

    INT8_KV_CACHE = enum.auto()
    FP8_KV_CACHE = enum.auto()
    FP8_QDQ = enum.auto()

    def has_int8_kv_cache(self) -> bool:
        return bool(self & QuantMode.INT8_KV_CACHE)

    def has_kv_cache_quant(self) -> bool:
        return bool(self & (QuantMode.INT8_KV_CACHE | QuantMode.FP8_KV_CACHE))

    def has_fp8_qdq(self) -> bool:
        return bool(self & QuantMode.FP8_QDQ)

    @staticmethod
    def from_quant_algo(quant_algo: str | None, kv_cache_quant_algo: str | None) -> QuantMode:
        assert quant_algo is None, "the double has no quantised layers"
        assert kv_cache_quant_algo is None, "the double has no cache"
        return QuantMode(0)


def quantize(model: Any, quant_config: Any) -> Any:
    """Replace layers where the mode says so; here it never does."""
    assert quant_config.layer_quant_mode == QuantMode(0)
    model.quant_mode = quant_config.quant_mode
    return model

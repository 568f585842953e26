"""Quantisation modes; of the ways to quantise, only "not at all"."""

from __future__ import annotations

import enum
from typing import Any


class QuantMode(enum.IntFlag):
    """Of its flags, the one that the attention plugin asks for."""

    INT8_KV_CACHE = enum.auto()

    def has_int8_kv_cache(self) -> bool:
        return bool(self & QuantMode.INT8_KV_CACHE)

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

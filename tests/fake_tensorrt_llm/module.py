"""Modules and parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tests.fake_tensorrt_llm.functional import Tensor
from tests.fake_tensorrt_llm.trt import to_dtype


class Parameter:
    def __init__(self, value=None, shape=None, dtype=None, is_buffer=False):
        self.dtype = to_dtype(dtype)
        self.shape = tuple(value.shape if shape is None else shape)
        self.tensor = value
        self.is_buffer = is_buffer

    @property
    def value(self) -> Tensor:
        return Tensor.of(self.tensor)

    def load(self, tensor: torch.Tensor) -> None:
        assert tuple(tensor.shape) == self.shape, (tuple(tensor.shape), self.shape)
        assert tensor.dtype == self.dtype.value, (tensor.dtype, self.dtype)
        self.tensor = tensor


class Module:
    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        setattr(self, name, parameter)

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
            elif isinstance(value, Module):
                yield from value.named_parameters(f"{prefix}{name}.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)


class ModuleList(Module):
    def __init__(self, modules: list[Module]) -> None:
        for index, module in enumerate(modules):
            setattr(self, str(index), module)

    def __iter__(self) -> Iterator[Module]:
        return iter(vars(self).values())

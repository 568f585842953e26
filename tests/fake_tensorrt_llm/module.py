"""Modules and parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tests.fake_tensorrt_llm.functional import Tensor, constant
from tests.fake_tensorrt_llm.network import default_net
from tests.fake_tensorrt_llm.trt import DataType
from tests.fake_tensorrt_llm.utils import str_dtype_to_trt


class Parameter:
    """Weights until the network takes them as a constant."""

    def __init__(
        self,
        value: torch.Tensor | None = None,
        shape: tuple[int, ...] | None = None,
        dtype: str | DataType | None = None,
        is_buffer: bool = False,
    ) -> None:
        dtype = DataType.FLOAT if dtype is None else dtype
        self.dtype = str_dtype_to_trt(dtype) if isinstance(dtype, str) else dtype
        self.shape = tuple(shape if value is None else value.shape)
        self.is_buffer = is_buffer
        self._value = value
        self._is_constant = False

    def is_inited(self) -> bool:
        return self._value is not None

    @property
    def raw_value(self) -> torch.Tensor:
        assert not self._is_constant, "raw_value must be read before value"
        assert self._value is not None
        return self._value

    @property
    def value(self) -> Tensor:
        default_net()
        assert self._value is not None, "the library would make random weights here"
        self._is_constant = True
        return constant(self._value)

    @value.setter
    def value(self, value: torch.Tensor) -> None:
        assert tuple(value.shape) == self.shape, (tuple(value.shape), self.shape)
        # Another dtype than the declared one is taken over; the network then does not fit together.
        self.dtype = DataType.of(value)
        self._value = value


class Module:
    """Keeps parameters and modules apart from other attributes, as the library does."""

    def __init__(self) -> None:
        self._modules: dict[str, Module] = {}
        self._parameters: dict[str, Parameter | None] = {}

    def __getattr__(self, name: str) -> Any:
        for members in ("_parameters", "_modules"):
            if name in self.__dict__.get(members, ()):
                return self.__dict__[members][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name}")

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter | Module):
            self.__dict__.pop(name, None)
            members = "_parameters" if isinstance(value, Parameter) else "_modules"
            self.__dict__[members][name] = value
        else:
            super().__setattr__(name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        default_net()
        return self.forward(*args, **kwargs)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        self._parameters[name] = param

    def named_modules_with_parent(
        self, prefix: str = "", parent: Module | None = None
    ) -> Iterator[tuple[str, Module, Module | None]]:
        """Walk the tree; a module may be replaced while it is visited."""
        yield prefix, self, parent
        module = self if parent is None else getattr(parent, prefix.rsplit(".", 1)[-1])
        for name, child in module._modules.items():
            path = f"{prefix}.{name}" if prefix else name
            yield from child.named_modules_with_parent(path, module)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        for path, module, _ in self.named_modules_with_parent():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    yield (f"{path}.{name}" if path else name), parameter


class ModuleList(Module):
    """Iterated by index, as the library's, which has no iterator of its own."""

    def __init__(self, modules: list[Module]) -> None:
        super().__init__()
        for index, module in enumerate(modules):
            self._modules[str(index)] = module

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._modules[str(index % len(self))]

"""`Session`: shapes are set, then a pass is enqueued."""

from __future__ import annotations

import pickle
from typing import Any

import torch

from tests.fake_tensorrt_llm.builder import Deserialized
from tests.fake_tensorrt_llm.trt import DataType, TensorIOMode

# The device that passes run on. On "meta", which has no memory, nothing is computed; but what
# lies there and what in host memory is told apart.
device = torch.device("cpu")


class Engine:
    def __init__(self, deserialized: Deserialized) -> None:
        self.deserialized = deserialized
        network = deserialized.network
        self._names = [*network.inputs, *network.outputs]
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        is_input = name in self.deserialized.network.inputs
        return TensorIOMode.INPUT if is_input else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        network = self.deserialized.network
        if name in network.inputs:
            return network.inputs[name].declared_dtype
        return network.outputs[name].dtype

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[list[int]]:
        assert profile_index == 0
        tensor = self.deserialized.network.inputs[name]
        return [tensor.profile(which) for which in range(3)]


class Session:
    def __init__(self) -> None:
        self.engine: Any = None
        self._shapes: dict[str, torch.Size] = {}

    @staticmethod
    def from_serialized_engine(engine: bytes) -> Session:
        session = Session()
        session.engine = Engine(Deserialized(pickle.loads(engine)))
        return session

    def set_shapes(self, tensor_dict: dict[str, torch.Tensor]) -> None:
        for index in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(index)
            if self.engine.get_tensor_mode(name) is TensorIOMode.INPUT:
                shape = tensor_dict[name].shape
                low, _, high = self.engine.get_tensor_profile_shape(name, 0)
                if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
                    raise ValueError(f"Couldn't assign {name} with shape {shape}")
                self._shapes[name] = shape

    def run(self, inputs: dict[str, Any], outputs: dict[str, Any], stream: int) -> bool:
        """Enqueue a pass. The library binds addresses and looks at nothing that is checked here."""
        network = self.engine.deserialized.network
        for name, tensor in {**inputs, **outputs}.items():
            place = torch.device("cpu") if name in network.read_on_host else device
            assert tensor.device == place, f"{name} is read in {place} memory: {tensor.device}"
            assert tensor.is_contiguous(), name
            assert tensor.dtype == self.engine.get_tensor_dtype(name).value, name
        for name, shape in self._shapes.items():
            assert inputs[name].shape == shape, name
        if device.type == "meta":
            return True
        for name, value in self.engine.deserialized.run(inputs).items():
            assert outputs[name].shape == value.shape
            outputs[name].copy_(value)
        return True

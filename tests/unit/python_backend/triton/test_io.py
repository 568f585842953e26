"""Where tensors of a request and of an answer lie, with a stand-in for Triton's module."""

from __future__ import annotations

import gc
import importlib
import sys
import weakref
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits


class FakeTensor:
    """What pb_utils.Tensor does; `on_gpu` ones are torch tensors of the CPU here."""

    def __init__(self, name, array, *, on_gpu=False):
        self._name, self._array, self._on_gpu = name, array, on_gpu

    @classmethod
    def from_dlpack(cls, name, tensor):
        assert tensor.is_contiguous()
        return cls(name, tensor, on_gpu=True)

    def name(self):
        return self._name

    def is_cpu(self):
        return not self._on_gpu

    def as_numpy(self):
        assert not self._on_gpu, "Tensor is stored in GPU and cannot be converted to NumPy"
        return self._array

    def __dlpack__(self, **arguments):
        return self._array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class FakeError:
    """What pb_utils.TritonError does."""

    INVALID_ARG = "INVALID_ARG"

    def __init__(self, message, code):
        self.message, self.code = message, code


@pytest.fixture
def io(monkeypatch):
    fake = ModuleType("triton_python_backend_utils")
    fake.Tensor = FakeTensor
    fake.InferenceResponse = lambda output_tensors=None, error=None: error or output_tensors
    fake.TritonError = FakeError
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.delitem(sys.modules, "python_backend.triton._io", raising=False)
    yield importlib.import_module("python_backend.triton._io")
    sys.modules.pop("python_backend.triton._io")


def test_only_named_inputs_stay_on_the_gpu_and_are_not_copied(io):
    pixels, pool = torch.zeros(2, 3), torch.ones(2)
    request = SimpleNamespace(
        inputs=lambda: [
            FakeTensor("PIXELS", pixels, on_gpu=True),
            FakeTensor("POOL", pool, on_gpu=True),
            FakeTensor("QUERY", np.array([b"q"], np.object_)),
        ]
    )
    tensors = io.read_tensors(request, stay_on_gpu=("PIXELS",))
    assert tensors["PIXELS"].data_ptr() == pixels.data_ptr()
    assert isinstance(tensors["POOL"], np.ndarray)
    assert tensors["POOL"].tolist() == [1, 1]
    assert tensors["QUERY"].tolist() == [b"q"]


def test_outputs_are_handed_over_where_they_lie(io):
    features = torch.zeros(2, 3)
    tensors = {"FEATURES": features, "TURNED": features.T, "SCORES": np.zeros((2, 2)).T}
    kept, turned, scores = io.respond(tensors)
    assert kept._on_gpu
    assert kept._array.data_ptr() == features.data_ptr()
    assert turned._on_gpu
    assert not scores._on_gpu
    assert scores._array.flags.c_contiguous


def test_nothing_of_a_request_that_failed_is_kept(io):
    class Content(np.ndarray):  # which can be referred to weakly
        pass

    held = []

    def fail(tensors, deadline):
        held.append(weakref.ref(tensors["QUERY"]))
        cause = ValueError("a local, as an answer of another process is")
        try:
            raise cause
        except ValueError as error:
            wrong = InvalidRequestError("wrong")
            raise wrong from error

    def request():
        query = np.zeros(3).view(Content)
        return SimpleNamespace(
            inputs=lambda: [FakeTensor("QUERY", query)],
            timeout=lambda: 0,
            parameters=lambda: "",
            is_cancelled=lambda: False,
        )

    gc.disable()
    try:
        (response,) = io.answer_each([request()], fail, limits=Limits())
        assert (response.message, response.code) == ("wrong", "INVALID_ARG")
        assert [ref() for ref in held] == [None]
    finally:
        gc.enable()

"""The runtime against a library that keeps TensorRT's rules and computes on the CPU."""

from __future__ import annotations

import ctypes
import sys
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from groundserve import tensorrt_library
from groundserve.errors import EngineMismatchError, InvalidRequestError, UnavailableError
from groundserve.tensorrt_library import TensorRTTarget, load_tensorrt
from python_backend.encode.tensorrt import TensorRTEncoder
from python_backend.ground.tensorrt import TensorRTTokenScorer
from python_backend.tensorrt_runtime import PlanRunner

TARGET = TensorRTTarget(library="tensorrt", version="10.14.1.48", gpu_archs=("sm_90",))


class DataType(Enum):
    FLOAT = torch.float32
    HALF = torch.float16
    BF16 = torch.bfloat16
    UINT8 = torch.uint8


class TensorIOMode(Enum):
    INPUT = 0
    OUTPUT = 1


class Engine:
    """A plan: shapes it takes, the shape it gives, and a function in PyTorch."""

    def __init__(self, inputs, output, shape, function):
        self.inputs, self.output, self.shape, self.function = inputs, output, shape, function
        self.names = [*inputs, output[0]]
        self.num_io_tensors = len(self.names)
        self.contexts = []
        self.has_room = True

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return self.inputs[name][0] if name in self.inputs else self.output[1]

    def get_tensor_profile_shape(self, name, profile):
        assert profile == 0
        _, low, high = self.inputs[name]
        return low, high, high

    def create_execution_context(self):
        if not self.has_room:
            return None
        self.contexts.append(Context(self))
        return self.contexts[-1]


class Context:
    """Reads its inputs and writes its output through the addresses it was given."""

    def __init__(self, engine):
        self.engine, self.shapes, self.addresses, self.runs = engine, {}, {}, []
        self.works = True
        self.refused = set()
        self.nvtx_verbosity = "as built"

    def set_input_shape(self, name, shape):
        if "shape" in self.refused:
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name, address):
        if name in self.refused:
            return False
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name):
        return self.engine.shape(self.shapes)

    def execute_async_v3(self, stream):
        assert self.addresses.keys() == set(self.engine.names)
        self.runs.append(dict(self.shapes))
        inputs = {name: self.at(name, self.shapes[name]) for name in self.engine.inputs}
        name = self.engine.output[0]
        self.at(name, self.get_tensor_shape(name)).copy_(self.engine.function(**inputs))
        return self.works

    def at(self, name, shape):
        dtype = self.engine.get_tensor_dtype(name).value
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_uint8 * size).from_address(self.addresses[name])
        return torch.frombuffer(memory, dtype=dtype).reshape(shape)


def vision_engine():
    """Sums each frame's pixels and weighs them with the pool's first row."""
    return Engine(
        {
            "PIXELS": (DataType.UINT8, (1, 4, 4, 3), (64, 4, 4, 3)),
            "POOL": (DataType.FLOAT, (1, 1, 2), (64, 2, 2)),
        },
        ("FEATURES", DataType.HALF),
        lambda shapes: (shapes["PIXELS"][0], shapes["POOL"][1] ** 2, 5),
        lambda PIXELS, POOL: (  # noqa: N803 - the names of the graph's inputs
            PIXELS.flatten(1).sum(1)[:, None, None]
            * POOL[:, :1, :1].expand(-1, POOL.shape[1] ** 2, 5)
        ).half(),
    )


def scorer_engine():
    """Sums each token's embedding and adds the sequence's length."""
    return Engine(
        {"INPUTS_EMBEDS": (DataType.BF16, (1, 8), (100, 8))},
        ("TOKEN_SCORES", DataType.FLOAT),
        lambda shapes: (shapes["INPUTS_EMBEDS"][0],),
        lambda INPUTS_EMBEDS: INPUTS_EMBEDS.float().sum(1) + len(INPUTS_EMBEDS),  # noqa: N803
    )


@pytest.fixture
def open_plan(monkeypatch, tmp_path):
    """Open an engine as a plan through the fake library."""
    monkeypatch.setattr(tensorrt_library, "current_gpu_arch", lambda: "sm_90")

    def open_engine(engine):
        class Runtime:
            def __init__(self, log):
                pass

            def deserialize_cuda_engine(self, plan):
                return engine if plan == b"plan" else None

        class Logger:
            WARNING = 1

            def __init__(self, severity):
                pass

        module = SimpleNamespace(
            __name__="tensorrt",
            __version__="10.14.1.48",
            Runtime=Runtime,
            Logger=Logger,
            DataType=DataType,
            TensorIOMode=TensorIOMode,
            ProfilingVerbosity=SimpleNamespace(LAYER_NAMES_ONLY="layer names"),
        )
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        path = tmp_path / "model.plan"
        if not path.exists():
            path.write_bytes(b"plan")
        return PlanRunner(path, TARGET, device="cpu")

    return open_engine


def embeds(length):
    return torch.arange(length * 8, dtype=torch.bfloat16).reshape(length, 8) / 8


def test_run_returns_new_outputs_of_the_runs_shape(open_plan):
    runner = open_plan(scorer_engine())
    first = runner.run({"INPUTS_EMBEDS": embeds(3)})["TOKEN_SCORES"]
    second = runner.run({"INPUTS_EMBEDS": embeds(2)})["TOKEN_SCORES"]
    assert first.dtype == torch.float32
    # Rows of 8 numbers n/8 sum to 28/8 + 8 * row; the length is added.
    assert first.tolist() == [6.5, 14.5, 22.5]
    assert second.tolist() == [5.5, 13.5]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        pytest.param({}, "the plan takes INPUTS_EMBEDS, got", id="missing"),
        pytest.param(
            {"INPUTS_EMBEDS": embeds(3), "X": embeds(1)}, "got INPUTS_EMBEDS, X", id="odd"
        ),
        pytest.param(
            {"INPUTS_EMBEDS": embeds(3).float()}, r"bfloat16 on cpu, got torch\.float32", id="dtype"
        ),
        pytest.param(
            {"INPUTS_EMBEDS": embeds(3).to("meta")}, "on cpu, got .* on meta", id="device"
        ),
        pytest.param(
            {"INPUTS_EMBEDS": embeds(101)}, r"\(1, 8\)\.\.\(100, 8\), got \(101, 8\)", id="too_long"
        ),
        pytest.param({"INPUTS_EMBEDS": embeds(3)[:0]}, r"got \(0, 8\)", id="empty"),
        pytest.param({"INPUTS_EMBEDS": embeds(3)[0]}, r"got \(8,\)", id="rank"),
        pytest.param(
            {"INPUTS_EMBEDS": torch.zeros((8, 3), dtype=torch.bfloat16).T},
            "must be contiguous",
            id="layout",
        ),
    ],
)
def test_run_refuses_inputs_that_tensorrt_would_misread(open_plan, inputs, message):
    runner = open_plan(scorer_engine())
    with pytest.raises(InvalidRequestError, match=message):
        runner.run(inputs)


def test_a_run_that_fails_is_no_answer(open_plan):
    engine = scorer_engine()
    runner = open_plan(engine)
    engine.contexts[0].works = False
    with pytest.raises(EngineMismatchError, match="did not run its plan"):
        runner.run({"INPUTS_EMBEDS": embeds(3)})


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        pytest.param("shape", r"did not take INPUTS_EMBEDS of shape \(2, 8\)", id="shape"),
        pytest.param("INPUTS_EMBEDS", "did not take the memory of INPUTS_EMBEDS", id="input"),
        pytest.param("TOKEN_SCORES", "did not take the memory of TOKEN_SCORES", id="output"),
    ],
)
def test_a_refused_tensor_does_not_leave_the_one_before_in_its_place(open_plan, refused, message):
    engine = scorer_engine()
    runner = open_plan(engine)
    runner.run({"INPUTS_EMBEDS": embeds(2)})
    engine.contexts[0].refused.add(refused)
    with pytest.raises(EngineMismatchError, match=message):
        runner.run({"INPUTS_EMBEDS": embeds(2)})
    assert len(engine.contexts[0].runs) == 1


def test_a_run_announces_no_more_than_layer_names(open_plan):
    engine = scorer_engine()
    open_plan(engine)
    assert engine.contexts[0].nvtx_verbosity == "layer names"


def test_a_gpu_without_room_is_unavailable(open_plan):
    engine = scorer_engine()
    engine.has_room = False
    with pytest.raises(UnavailableError, match=r"no room for the scratch memory of model\.plan"):
        open_plan(engine)


@pytest.mark.parametrize("home", ["numpy", "torch"])
def test_the_encoder_splits_frames_and_keeps_their_order(open_plan, home):
    engine = vision_engine()
    encoder = TensorRTEncoder(open_plan(engine), ["PIXELS", "POOL"])
    frames = np.arange(130, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 3), np.uint8)
    pooling = np.array([[[0.25, 0.75], [0.5, 0.5]]], np.float32)
    features = encoder.encode(frames if home == "numpy" else torch.from_numpy(frames), pooling)
    assert [run["PIXELS"][0] for run in engine.contexts[0].runs] == [64, 64, 2]
    assert [run["POOL"] for run in engine.contexts[0].runs] == [(64, 2, 2), (64, 2, 2), (2, 2, 2)]
    assert features.shape == (130, 4, 5)
    assert features.dtype == torch.float16
    assert features[:, 3, 4].tolist() == [12.0 * index for index in range(130)]


def test_the_scorer_runs_one_sequence_after_another(open_plan):
    engine = scorer_engine()
    scorer = TensorRTTokenScorer(open_plan(engine))
    assert scorer.max_num_tokens == 100
    scores = scorer.score([embeds(3), embeds(1)])
    assert [one.tolist() for one in scores] == [[6.5, 14.5, 22.5], [4.5]]
    assert [run["INPUTS_EMBEDS"] for run in engine.contexts[0].runs] == [(3, 8), (1, 8)]


def test_another_gpu_is_refused_before_the_plan_is_read(open_plan, monkeypatch, tmp_path):
    open_plan(scorer_engine())
    monkeypatch.setattr(tensorrt_library, "current_gpu_arch", lambda: "sm_89")
    with pytest.raises(EngineMismatchError, match="built for sm_90, this machine has sm_89"):
        PlanRunner(tmp_path / "absent.plan", TARGET, device="cpu")


def test_another_version_is_refused_before_the_plan_is_read(open_plan, tmp_path):
    open_plan(scorer_engine())
    target = TensorRTTarget(library="tensorrt", version="10.13.0", gpu_archs=("sm_90",))
    with pytest.raises(EngineMismatchError, match=r"tensorrt 10\.13\.0, this machine has 10\.14"):
        PlanRunner(tmp_path / "absent.plan", target, device="cpu")


def test_an_absent_plan_is_refused(open_plan, tmp_path):
    open_plan(scorer_engine())
    with pytest.raises(EngineMismatchError, match=r"absent\.plan cannot be read \(No such file"):
        PlanRunner(tmp_path / "absent.plan", TARGET, device="cpu")


def test_the_real_library_refuses_a_damaged_plan(monkeypatch, tmp_path):
    library = load_tensorrt("tensorrt_rtx")
    monkeypatch.setattr(tensorrt_library, "current_gpu_arch", lambda: "sm_89")
    (tmp_path / "model.plan").write_bytes(b"not a plan" * 100)
    target = TensorRTTarget(
        library="tensorrt_rtx", version=library.version, gpu_archs=("sm_89", "sm_120")
    )
    with pytest.raises(EngineMismatchError, match=r"model\.plan is no plan that tensorrt_rtx 1"):
        PlanRunner(tmp_path / "model.plan", target)

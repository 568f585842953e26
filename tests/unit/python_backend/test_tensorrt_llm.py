"""The TensorRT-LLM runtime around a double of its library: passes, inputs, refusals."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from groundserve.errors import (
    EngineMismatchError,
    GroundserveError,
    InvalidRequestError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.families.videoitg.checkpoint import Checkpoint
from python_backend.ground.base import TokenScorer
from python_backend.ground.tensorrt_llm import TensorRTLLMTokenScorer
from tests import fake_tensorrt_llm
from tests.fake_tensorrt_llm import runtime
from tests.fake_tensorrt_llm.engines import HostGpu, write_engine
from tests.support.reference import SET_1

WIDTH = 64
deserialize = runtime.Session.from_serialized_engine


@pytest.fixture(autouse=True)
def _library(monkeypatch):
    fake_tensorrt_llm.install(monkeypatch)


@pytest.fixture
def engine_dir(tmp_path):
    return write_engine(Checkpoint.open(SET_1 / "videoitg-tiny"), tmp_path)


class RecordingSession(runtime.Session):
    """Keeps what each pass was given."""

    passes: list[dict[str, torch.Tensor]]
    answer = True

    @staticmethod
    def from_serialized_engine(engine):
        session = RecordingSession()
        session.engine = deserialize(engine).engine
        session.passes = []
        return session

    def run(self, inputs, outputs, stream):
        assert stream == 7
        self.passes.append({**inputs, **outputs})
        return super().run(inputs, outputs, stream) and self.answer


class MetaGpu(HostGpu):
    """A device that computes nothing, and is not the host."""

    device = torch.device("meta")


@pytest.fixture
def recorded(engine_dir, monkeypatch):
    """A scorer on such a device."""
    monkeypatch.setattr(runtime, "Session", RecordingSession)
    monkeypatch.setattr(runtime, "device", MetaGpu.device)
    return TensorRTLLMTokenScorer(engine_dir, gpu=MetaGpu())


def sequence(length, device="cpu"):
    return torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(0)).to(device)


def scorer_of(engine_dir):
    scorer: TokenScorer = TensorRTLLMTokenScorer(engine_dir, gpu=HostGpu())
    return scorer


def test_a_pass_has_these_inputs(recorded):
    scores = recorded.score(sequence(12, device="meta"))
    assert tuple(scores.shape) == (12,)
    (given,) = recorded._session.passes
    tensors = {
        name: (tensor.device.type, tensor.dtype, list(tensor.shape))
        for name, tensor in given.items()
    }
    assert tensors == {
        "inputs_embeds": ("meta", torch.float32, [12, WIDTH]),
        "context_lengths": ("meta", torch.int32, [1]),
        "host_context_lengths": ("cpu", torch.int32, [1]),
        "host_request_types": ("cpu", torch.int32, [1]),
        "host_max_attention_window_sizes": ("cpu", torch.int32, [2]),
        "host_sink_token_length": ("cpu", torch.int32, [1]),
        "host_runtime_perf_knobs": ("cpu", torch.int64, [16]),
        "host_context_progress": ("cpu", torch.int64, [1]),
        "frame_token_scores": ("meta", torch.float32, [12, 1]),
    }
    assert given["host_context_lengths"].tolist() == [12]
    assert given["host_request_types"].tolist() == [0]
    assert given["host_max_attention_window_sizes"].tolist() == [20480, 20480]
    assert given["host_sink_token_length"].tolist() == [0]
    assert given["host_runtime_perf_knobs"].tolist() == [-1] * 16
    assert given["host_context_progress"].tolist() == [0]


def test_a_pass_that_is_not_enqueued_is_an_error(recorded):
    recorded._session.answer = False
    with pytest.raises(GroundserveError, match="could not enqueue"):
        recorded.score(sequence(5, device="meta"))


@pytest.mark.parametrize(
    ("length", "message"), [(20481, r"1\.\.20480 .* got 20481"), (0, r"1\.\.20480 .* got 0")]
)
def test_score_refuses_a_length(engine_dir, length, message):
    scorer = scorer_of(engine_dir)
    with pytest.raises(InvalidRequestError, match=message):
        scorer.score(sequence(length))
    assert scorer._gpu.num_passes == 0


def set_in_config(*keys, value):
    def change(engine_dir):
        path = engine_dir / "config.json"
        config = json.loads(path.read_text())
        target = config
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value
        path.write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            set_in_config("version", value="1.2.0"),
            r"built for TensorRT-LLM 1\.2\.0, this is 1\.2\.1",
            id="tensorrt_llm",
        ),
        pytest.param(
            set_in_config("groundserve", "gpu_arch", value="sm_80"),
            "built for GPU sm_80, this is sm_90",
            id="gpu",
        ),
        pytest.param(
            lambda engine_dir: (engine_dir / "config.json").unlink(),
            r"config\.json is missing or not what groundserve writes",
            id="no_config",
        ),
        pytest.param(
            lambda engine_dir: (engine_dir / "rank0.engine").unlink(),
            r"rank0\.engine is missing or unreadable",
            id="no_engine",
        ),
    ],
)
def test_load_refuses_what_does_not_match(engine_dir, change, message):
    change(engine_dir)
    with pytest.raises(EngineMismatchError, match=message):
        scorer_of(engine_dir)


def test_a_gpu_without_room_for_the_context_is_unavailable(engine_dir, monkeypatch):
    """As `runtime/session.py` at NVIDIA/TensorRT-LLM 46d548b: the context is None, then used."""

    def open_without_room(engine):
        context = deserialize(engine).engine and None
        context.set_optimization_profile_async(0, 7)

    monkeypatch.setattr(runtime.Session, "from_serialized_engine", staticmethod(open_without_room))
    with pytest.raises(UnavailableError, match=r"no room for the scratch .* trtllm/rank0\.engine"):
        scorer_of(engine_dir)


def test_load_without_the_library_says_what_is_needed(engine_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    with pytest.raises(UnsupportedError, match=r"needs TensorRT-LLM 1\.2\.1, which is not install"):
        scorer_of(engine_dir)

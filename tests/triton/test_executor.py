"""Profile `gpu` of a family that answers in text, in a real server, with doubles for TensorRT.

The server reads the repository as a build renders it. Changed are where instances run, for there is
no GPU, and who stands behind two models: CLIP's plan is run in PyTorch, and Triton's `tensorrtllm`
backend, which the server does not have, is `tests/fake_tensorrt_llm/executor.py`, which re-executes
the converted weights and checks each request against config.pbtxt.
"""

from __future__ import annotations

import json
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
import tritonclient.grpc

from engine_build import build
from engine_build.trtllm import build as trtllm_build
from groundserve import AnswerOptions, Client, DeadlineExceededError, RequestCancelledError
from groundserve.families.plans import VISUAL_TOKEN_ID
from groundserve.manifest import MANIFEST_NAME, Manifest, hash_tree
from groundserve.serving import server as server_module
from groundserve.tensorrt_library import TensorRTTarget
from python_backend.generate.tensorrt_llm import stop_tensors
from tests.answer_cases import CASES, CHECKPOINTS, MODELS
from tests.fake_tensorrt_llm.machine import install
from tests.reference import REPOSITORY
from tests.triton.protocol import Protocol, texts, upload
from tests.triton.serve import serve

STAGE_3 = [case for case in CASES if case.model == "stage3"]
QUESTIONS = [f"Which frames show the number {number}?" for number in range(6)]
CHAT = AnswerOptions(task="chat", max_new_tokens=8)
WAIT_SECONDS = 60.0
# What the double saw, a line a request; and where this is, it takes its time.
SEEN, SLOW = "seen.jsonl", "slow"
# Of 32 tokens, with no end among them.
LONG = next(case for case in STAGE_3 if not case.stopped_by_eos)

EXECUTOR_PY = f"""
import json, queue, sys, threading, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
import triton_python_backend_utils as pb_utils
from tests.fake_tensorrt_llm.executor import FakeExecutor

class TritonPythonModel:
    # As the backend: requests are taken at once, and one thread gives each a token a pass.
    def initialize(self, args):
        folder = Path(args["model_repository"])
        config = json.loads(args["model_config"])
        # As it is written: from where the server was started.
        engine = Path(config["parameters"]["gpt_model_path"]["string_value"])
        self.executor = FakeExecutor((folder / "config.pbtxt").read_text(), engine)
        self.shapes = {{
            one["name"]: (1, 1) if "reshape" in one else None for one in config["input"]
        }}
        self.seen, self.slow = folder / {SEEN!r}, folder / {SLOW!r}
        self.requests = queue.Queue()
        threading.Thread(target=self.run, daemon=True).start()

    def execute(self, requests):
        for request in requests:
            arrays = {{one.name(): one.as_numpy() for one in request.inputs()}}
            self.requests.put((request.request_id(), arrays, request.get_response_sender()))

    def run(self):
        active = []
        while True:
            if active and self.slow.exists():
                time.sleep(0.12)
            while not active or not self.requests.empty():
                one = self.begin(*self.requests.get())
                if not one[-1]["stop"] or self.step(*one):  # which is heard at once
                    active.append(one)
            active = [one for one in active if self.step(*one)]

    def begin(self, request_id, arrays, sender):
        line = {{"id": request_id, "stop": "stop" in arrays, "parts": 0}}
        return self.parts(arrays, request_id, line), sender, line

    def parts(self, arrays, request_id, line):
        # Those of one value come without the dimension of 1: that is what the config says.
        for name, array in arrays.items():
            assert array.shape == (1,) or self.shapes[name] is None, name
        whole = {{n: a.reshape(self.shapes[n] or a.shape) for n, a in arrays.items()}}
        for outputs in self.executor.execute(whole, request_id=request_id):
            line.setdefault("reused", self.executor.reused[-1])
            line["parts"] += 1
            yield outputs

    def step(self, parts, sender, line):
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        try:
            outputs = next(parts, None)
        except Exception as error:
            failed = pb_utils.TritonError(f"{{type(error).__name__}}: {{error}}")
            sender.send(pb_utils.InferenceResponse(error=failed), flags=final)
            return False
        if outputs is not None:
            tensors = [pb_utils.Tensor(n, a) for n, a in outputs.items()]
            sender.send(pb_utils.InferenceResponse(tensors))
            return True
        with self.seen.open("a") as file:
            file.write(json.dumps(line) + "\\n")
        sender.send(flags=final)
        return False
"""
ENCODER_PY = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import torch
from engine_build.families.vtimellm.mixed_precision import MixedClipTower
from engine_build.families.vtimellm.vision_plan import clip_shapes
from groundserve.families.vtimellm.checkpoint import Checkpoint
from python_backend import engine
from tests.answer_cases import CHECKPOINTS, MODELS

class ModulePlan:
    # What PlanRunner does, with the module that the plan was built of.
    device = torch.device("cpu")

    def __init__(self, path, target):
        assert path.is_file() and target.gpu_archs == ("sm_89",)
        vision = Checkpoint.open(CHECKPOINTS, parts=MODELS["stage3"]).load_vision()
        self.module = MixedClipTower(vision, dtype=torch.float16)
        self.shapes = clip_shapes(self.module)

    def max_shape(self, name):
        return self.shapes[name].max_shape

    def run(self, inputs):
        assert inputs.keys() == self.shapes.keys()
        for name, tensor in inputs.items():
            least, most = self.shapes[name].min_shape, self.shapes[name].max_shape
            assert tensor.dtype == torch.float16 and tensor.is_contiguous()
            assert len(tensor.shape) == len(most)
            assert all(a <= b <= c for a, b, c in zip(least, tensor.shape, most))
        with torch.inference_mode():
            return {{"FEATURES": self.module(*inputs.values())}}

engine.PlanRunner = ModulePlan
from python_backend.triton.vision_encoder import TritonPythonModel as TritonPythonModel
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """An engine directory, as a build writes it but for the doubles; built for a GPU elsewhere."""
    folder = tmp_path_factory.mktemp("executor")
    with pytest.MonkeyPatch.context() as patch:
        install(folder / "machine", patch)
        # Told of one by PyTorch, its exporter would use it.
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(trtllm_build, "current_gpu_arch", lambda: "sm_89")
        build(
            CHECKPOINTS,
            folder / "engines",
            profile="gpu",
            parts=MODELS["stage3"],
            gpu_archs=("sm_89",),
        )
    return folder / "engines"


@pytest.fixture(scope="module")
def served_engines(engines):
    """The same with its repository changed as the top of this file says."""
    found = engines / "model_repository"
    for path in found.glob("*/config.pbtxt"):
        text = path.read_text()
        text = text.replace("kind: KIND_GPU", "kind: KIND_CPU").replace("    gpus: 0\n", "")
        path.write_text(text.replace("  gpus: 0\n", ""))
    executor = found / "tensorrt_llm"
    text = (executor / "config.pbtxt").read_text()
    assert 'backend: "tensorrtllm"' in text
    (executor / "config.pbtxt").write_text(text.replace('"tensorrtllm"', '"python"'))
    (executor / "1" / "model.py").write_text(EXECUTOR_PY)
    (found / "vision_encoder" / "1" / "model.py").write_text(ENCODER_PY)
    manifest = Manifest.load(engines)
    (engines / MANIFEST_NAME).unlink()
    changed = replace(manifest, files=hash_tree(engines))
    (engines / MANIFEST_NAME).write_text(changed.to_json())
    return engines


@pytest.fixture(scope="module")
def executing(served_engines, tmp_path_factory):
    """`groundserve serve`'s own server on them, told that there is a GPU."""
    folder = tmp_path_factory.mktemp("executing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "check_gpu", lambda *_: None)
        patch.setattr(TensorRTTarget, "check_gpu", lambda _: None)
        patch.setattr(server_module, "_gpu_pools", lambda *_: None)
        with serve(served_engines, folder / "log", cache_dir=folder / "cache") as running:
            yield running


@pytest.fixture
def address(executing):
    return executing.triton.grpc_address


@pytest.fixture
def client(address):
    with Client(f"grpc://{address}") as opened:
        yield opened


@pytest.fixture
def slowly(served_engines):
    """Have each token take its time."""
    sign = served_engines / "model_repository" / "tensorrt_llm" / SLOW
    sign.touch()
    yield
    sign.unlink()


@pytest.fixture
def seen(served_engines):
    """What the double answers from here on, oldest first."""
    path = served_engines / "model_repository" / "tensorrt_llm" / SEEN
    num_before = len(path.read_text().splitlines()) if path.exists() else 0
    return lambda: [json.loads(line) for line in path.read_text().splitlines()[num_before:]]


def test_the_manifest_says_what_runs_where(engines):
    manifest = Manifest.load(engines)
    assert (manifest.profile, manifest.precision, manifest.device) == ("gpu", "fp16", "cuda")
    assert (manifest.decoder, manifest.builder["decoder"]) == ("pyav", "pyav")
    assert manifest.builder["num_nvdec"] is None
    assert {
        "vision_encoder.plan",
        "front.onnx",
        "tokenizer.json",
        "trtllm/rank0.engine",
        "trtllm/config.json",
        "model_repository/tensorrt_llm/config.pbtxt",
        "model_repository/generation/1/model.py",
    } <= manifest.files.keys()
    assert manifest.encoder_identity["weights"].keys() == {"vision_encoder.plan"}


@pytest.mark.parametrize("case", STAGE_3, ids=lambda case: case.name)
def test_the_ensemble_answers_as_the_reference(address, case, clips):
    protocol = Protocol("grpc", address)
    inputs = {
        "VIDEO": upload(case.path(clips).read_bytes()),
        "QUERY": texts(case.query),
        "OPTIONS": texts(case.options.to_json()),
    }
    answer = protocol.infer("vtimellm", inputs)
    protocol.client.close()
    assert answer["FRAME_INDICES"].tolist() == case.frame_indices
    assert answer["PROMPT_TOKEN_IDS"].tolist() == case.input_ids
    assert answer["TOKEN_IDS"].tolist() == case.token_ids
    assert answer["ANSWER"].tolist() == [case.text.encode()]
    info = json.loads(answer["INFO"][0])
    assert info["decoders"] == ["pyav"]
    expected = "eos" if case.stopped_by_eos else "length"
    assert info["generation"]["stop_reasons"] == [expected]


def test_questions_on_one_video_find_the_prefix_of_the_first(executing, client, seen, clips):
    # Of frames that no other test asks about.
    options = replace(CHAT, clip_seconds=(0.5, 2.0))
    before = executing.metrics()
    together = client.ask(clips["bikes"], QUESTIONS, options)
    counted = executing.growth(before)
    num_prefix = together.answers[0].prompt_token_ids.tolist().index(VISUAL_TOKEN_ID) + 100
    assert counted["prefix_tokens_total"] == together.generation.prefix_tokens == num_prefix
    first, *others = seen()
    assert first["reused"] < num_prefix
    assert len(others) == len(QUESTIONS) - 1
    assert all(one["reused"] >= num_prefix for one in others)
    apart = [client.ask(clips["bikes"], one, options).answers[0] for one in QUESTIONS]
    assert [one.to_json() for one in apart] == [one.to_json() for one in together.answers]
    num_tokens = sum(answer.token_ids.size for answer in together.answers)
    assert counted["generated_tokens_total"] == together.generation.generated_tokens == num_tokens


@pytest.mark.usefixtures("slowly")
def test_time_that_runs_out_between_tokens_stops_the_backend(client, seen, clips):
    video = LONG.path(clips)
    client.ask(video, "When?", replace(LONG.options, max_new_tokens=1))  # features are cached
    result = client.ask(video, LONG.query, LONG.options, timeout_seconds=4)
    assert result.generation.stop_reasons == ("deadline",)
    num_tokens = result.answers[0].token_ids.size
    assert result.answers[0].token_ids.tolist() == LONG.token_ids[:num_tokens]
    answer, stops = stopped(seen)
    assert answer["parts"] == num_tokens
    assert {one["id"] for one in stops} == {answer["id"]}


def test_time_that_runs_out_before_the_first_token_is_an_error(client, clips):
    with pytest.raises(DeadlineExceededError):
        client.ask(LONG.path(clips), "When?", LONG.options, timeout_seconds=0.001)


@pytest.mark.usefixtures("slowly")
def test_closing_the_client_stops_the_backend(executing, client, seen, clips):
    video = LONG.path(clips)
    client.ask(video, "When?", replace(LONG.options, max_new_tokens=1))
    before = executing.metrics()
    leaving = Client(f"grpc://{executing.triton.grpc_address}")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(leaving.ask, video, LONG.query, LONG.options)
        wait_until(lambda: executing.growth(before)["prompt_tokens_total"] > 0)
        leaving.close()
        with pytest.raises(RequestCancelledError):
            asked.result()
    answer, stops = stopped(seen)
    assert 0 < answer["parts"] < len(LONG.token_ids)
    assert {one["id"] for one in stops} == {answer["id"]}


def stopped(seen):
    """Return the second answer of a test, which was stopped, and what stopped it."""

    def answers():
        return [one for one in seen() if not one["stop"]]

    wait_until(lambda: len(answers()) == 2)
    return answers()[1], [one for one in seen() if one["stop"]]


def wait_until(happened) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def refusal(address, inputs):
    """Return the error that a streaming call of the model itself gets."""
    answers: queue.Queue[object] = queue.Queue()
    client = tritonclient.grpc.InferenceServerClient(address)
    client.start_stream(lambda result, error: answers.put(error))
    client.async_stream_infer("tensorrt_llm", inputs, request_id="mine")
    error = answers.get(timeout=WAIT_SECONDS)
    client.stop_stream()
    client.close()
    return str(error)


def tensor(name, array):
    types = {"bool": "BOOL", "int32": "INT32", "int64": "INT64"}
    made = tritonclient.grpc.InferInput(name, list(array.shape), types[array.dtype.name])
    made.set_data_from_numpy(array)
    return made


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda r: r.pop("input_lengths"), "expected", id="a_length_is_missing"),
        pytest.param(
            lambda r: r.update(stop_words_list=np.zeros((1, 2, 1), np.int32)),
            "unexpected",
            id="a_tensor_that_no_request_of_ours_has",
        ),
        pytest.param(
            lambda r: r.update(end_id=np.zeros((1, 1), np.int64)), "data-type", id="a_type"
        ),
        pytest.param(
            lambda r: r.update(end_id=np.array([2], np.int32)), "shape", id="no_batch_dimension"
        ),
    ],
)
def test_the_server_checks_requests_against_the_config(address, change, words):
    inputs = stop_tensors()
    change(inputs)
    assert words in refusal(address, [tensor(name, array) for name, array in inputs.items()])

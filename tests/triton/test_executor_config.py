"""The config of Triton's `tensorrtllm` backend in a real server, which a double stands behind.

The server reads the config and checks each request against it; the backend, which it does not have
here, is a Python model that answers as `tests/fake_tensorrt_llm/executor.py` does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from engine_build.families.vtimellm.trtllm_convert import convert_checkpoint
from engine_build.triton.tensorrt_llm import executor_config
from engine_build.trtllm.generation import GenerationLimits
from groundserve.families.plans import Prompt
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.serving.installation import find_installation, server_environment
from python_backend.generate.tensorrt_llm import read_answer, request_tensors, video_key
from tests.answer_cases import CASES, CHECKPOINTS, FOLDER, MODELS
from tests.reference import REPOSITORY
from tests.triton.protocol import Protocol, RejectedError

WAIT_SECONDS = 60.0
MODEL_PY = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
import triton_python_backend_utils as pb_utils
from tests.fake_tensorrt_llm.executor import FakeExecutor

class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"])
        self.executor = FakeExecutor((folder / "config.pbtxt").read_text(), folder / "converted")
        config = json.loads(args["model_config"])
        self.shapes = {{
            one["name"]: (1, 1) if "reshape" in one else None for one in config["input"]
        }}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        arrays = {{one.name(): one.as_numpy() for one in request.inputs()}}
        # Those of one value come without the dimension of 1: that is what the config says.
        for name, array in arrays.items():
            assert array.shape == (1,) or self.shapes[name] is None, name
        whole = {{n: a.reshape(self.shapes[n] or a.shape) for n, a in arrays.items()}}
        outputs = self.executor.execute(whole)
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, a) for n, a in outputs.items()])
"""


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.open(CHECKPOINTS, parts=MODELS["stage3"])


@pytest.fixture(scope="module")
def protocol(checkpoint, tmp_path_factory):
    """A client of a server with that model alone."""
    folder = tmp_path_factory.mktemp("executor")
    model = folder / "repository" / "tensorrt_llm"
    (model / "1").mkdir(parents=True)
    (model / "converted").mkdir()
    convert_checkpoint(checkpoint, model / "converted", precision="fp32")
    limits = GenerationLimits.for_model(checkpoint.model_spec(pad_token_id=0))
    text = executor_config(folder, limits, precision="fp16", cache_memory=0.5)
    # Nothing else is changed: who runs it, and the table's type, which is the engine's.
    text = text.replace('backend: "tensorrtllm"', 'backend: "python"')
    text = text.replace("data_type: TYPE_FP16", "data_type: TYPE_FP32")
    (model / "config.pbtxt").write_text(text)
    (model / "1" / "model.py").write_text(MODEL_PY)
    installation = find_installation()
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(3)]
        for one in bound:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in bound]
    command = [
        str(installation.executable),
        f"--model-repository={folder / 'repository'}",
        "--disable-auto-complete-config",
        *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
        *(f"--{k}-port={p}" for k, p in zip(("http", "grpc", "metrics"), ports, strict=True)),
        f"--backend-config=python,shm-region-prefix-name=executor_{os.getpid()}_",
    ]
    backends = installation.link_backends(folder / "backends")
    if backends is not None:
        command.append(f"--backend-directory={backends}")
    log = (folder / "log").open("w")
    server = subprocess.Popen(
        command, cwd="/", env=server_environment(installation, {}), stdout=log, stderr=log
    )
    opened = Protocol("grpc", f"127.0.0.1:{ports[1]}")
    try:
        wait_until_ready(opened, server, folder / "log")
        yield opened
    finally:
        opened.client.close()
        server.terminate()
        server.wait(WAIT_SECONDS)
        log.close()


def wait_until_ready(protocol: Protocol, server: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            if protocol.client.is_model_ready("tensorrt_llm"):
                return
        except Exception:  # noqa: BLE001 - not listening yet
            pass
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at, log.read_text()
        time.sleep(0.2)


def request(checkpoint, case):
    features = np.load(FOLDER / "features" / f"{case.video}.npy")[:, None]
    with torch.inference_mode():
        block = checkpoint.load_front()(torch.from_numpy(features)).numpy()
    return request_tensors(
        Prompt(token_ids=np.array(case.input_ids), num_prefix=1),
        block,
        case.options,
        video=video_key(features.astype(np.float16)),
        vocab_size=checkpoint.vocab_size,
        end_id=checkpoint.end_token_id,
        seed=None,
    )


CASE = next(
    case
    for case in CASES
    if case.model == "stage3" and (FOLDER / "features" / f"{case.video}.npy").is_file()
)


def test_the_server_takes_the_config_and_a_question(protocol, checkpoint):
    config = protocol.client.get_model_config("tensorrt_llm").config
    assert config.max_batch_size == 8
    outputs = protocol.infer("tensorrt_llm", request(checkpoint, CASE))
    answer = read_answer(outputs, CASE.options, end_id=checkpoint.end_token_id)
    assert answer.token_ids.tolist() == CASE.token_ids


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
            lambda r: r.update(end_id=r["end_id"].astype(np.int64)), "data-type", id="a_type"
        ),
        pytest.param(
            lambda r: r.update(end_id=np.array([2], np.int32)), "shape", id="no_batch_dimension"
        ),
    ],
)
def test_the_server_refuses_another_request(protocol, checkpoint, change, words):
    inputs = request(checkpoint, CASE)
    change(inputs)
    with pytest.raises(RejectedError) as refused:
        protocol.infer("tensorrt_llm", inputs)
    assert words in refused.value.message

"""No text of Triton's own reaches a caller through us."""

from __future__ import annotations

import pytest

from groundserve.client._failures import typed_error
from groundserve.errors import GroundserveError, UnavailableError
from groundserve.triton_messages import INTERNAL_MESSAGE, MEMORY_FULL, RESTARTING
from python_backend.triton._errors import code_and_message, from_classed_message

REGION = "groundserve_8633_7edede3701234567_a08d85d1-4c39-477d-8539-9ad2197b8a02"
PATH = "/opt/groundserve/python_backend/triton/_io.py"
TRACEBACK = (
    f"OSError: [Errno 24] Too many open files\n\nAt:\n  {PATH}(58): answer_each\n"
    "  /engines/model_repository/front/1/model.py(12): execute\n"
)

# 2.51 is r24.10: triton-inference-server/python_backend 01d0ad8 and core bfec7c6, as cited.
UNKNOWN = (
    # src/python_be.cc, ProcessRequests; src/pb_stub.cc, ProcessRequests
    f"Failed to process the request(s) for model instance 'front_0_1', message: {TRACEBACK}",
    f"Failed to process the request(s) for model 'front_0_1', message: {TRACEBACK}",
    "Failed to process the requests.",
    "Failed to copy output tensor to Triton-provided buffer: cudaErrorLaunchFailure at 0x7f12",
    f"triton_python_backend_stub is not found. Searched paths: {PATH}",
    # src/infer_request.cc, src/request_executor.cc
    f"unable to open shared memory object /{REGION}",
    "",
)
PASSING = {
    # src/shm_manager.cc, GrowIfNeeded and the constructor
    f"Failed to increase the shared memory pool size for key '{REGION}' to 33554432 bytes. If you "
    "are running Triton inside docker, use '--shm-size' flag to control the shared memory region "
    "size. Error: No space left on device": MEMORY_FULL,
    # src/python_be.cc, src/stub_launcher.cc
    "Stub process 'video_decode_0_1' is not healthy.": RESTARTING,
    # src/request_executor.cc; core src/model_repository_manager/model_lifecycle.cc
    "Failed for execute the inference request. Model 'grounding' is not ready.": RESTARTING,
    "Request for unknown model: 'grounding' has no available versions": RESTARTING,
    # core src/dynamic_batch_scheduler.cc, src/scheduler_utils.cc
    "Server is stopping, scheduler for model has stopped accepting new inference requests": (
        RESTARTING
    ),
}
PREFIXES = (
    "",
    "in ensemble 'videoitg', [request id: <id_unknown>] ",
    "Failed to process the request(s) for model instance 'x_0', message: TritonModelException: "
    f"{PATH}: ",
)


def said_by_an_inner_model(text: str) -> tuple[str, str]:
    return code_and_message(from_classed_message("video_decode", text))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("message", UNKNOWN)
def test_unknown_failures_become_our_text(prefix, message):
    text = prefix + message
    assert said_by_an_inner_model(text) == ("INTERNAL", INTERNAL_MESSAGE)
    assert code_and_message(RuntimeError(text)) == ("INTERNAL", INTERNAL_MESSAGE)
    for status in ("INTERNAL", "UNKNOWN"):
        error = typed_error(status, text, "grpc://host:8001")
        assert type(error) is GroundserveError
        assert str(error) == INTERNAL_MESSAGE


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("message", "ours"), PASSING.items(), ids=str)
def test_failures_that_pass_are_unavailable(prefix, message, ours):
    """Also where Triton says that the request is wrong (NOT_FOUND, INVALID_ARGUMENT)."""
    text = prefix + message
    assert said_by_an_inner_model(text) == ("UNAVAILABLE", ours)
    assert code_and_message(RuntimeError(text)) == ("UNAVAILABLE", ours)
    for status in ("INTERNAL", "UNAVAILABLE", "NOT_FOUND", "INVALID_ARGUMENT"):
        error = typed_error(status, text, "grpc://host:8001")
        assert type(error) is UnavailableError
        assert str(error) == ours


def test_what_our_models_say_stays_as_it_is():
    assert said_by_an_inner_model("InvalidRequestError: FEATURES is not ready to eat") == (
        "INVALID_ARG",
        "FEATURES is not ready to eat",
    )

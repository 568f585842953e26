"""A server of gRPC that answers as groundserve's does, from a script instead of engines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, np_to_triton_dtype, serialize_byte_tensor

from groundserve.answers import Answer, GenerationInfo, Moment
from groundserve.errors import GroundserveError
from python_backend.triton._answer import answer_tensors
from tests.support.results import make_info

_PREFIX = "/inference.GRPCInferenceService/"
_CODES = {
    "InvalidRequestError": grpc.StatusCode.INVALID_ARGUMENT,
    "MediaError": grpc.StatusCode.INVALID_ARGUMENT,
    "UnsupportedError": grpc.StatusCode.UNIMPLEMENTED,
}


@dataclass(frozen=True)
class Request:
    """What arrived at the server."""

    model: str
    request_id: str
    uri: str
    queries: list[str]
    options: dict[str, Any]
    context: grpc.ServicerContext
    """Tells whether the caller still waits."""

    def read_video(self) -> bytes:
        with open(self.uri.removeprefix("file://"), "rb") as file:
            return file.read()


def no_script(request: Request) -> None:
    """Answer at once."""


@dataclass
class ScriptedServer:
    """Called with each request before its answer, `script` may wait or raise a GroundserveError.

    Answers of text are a question's words, one a piece; scores depend on the question alone.
    """

    families: tuple[str, ...] = ("videoitg",)
    script: Callable[[Request], None] = no_script
    port: int = 0
    is_ready: bool = True
    requests: list[Request] = field(default_factory=list)
    has_asked: threading.Event = field(default_factory=threading.Event)
    """Set by each request."""

    def __enter__(self) -> ScriptedServer:
        self._server = grpc.server(ThreadPoolExecutor(32))
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        name = details.method.removeprefix(_PREFIX)
        kind = "stream_stream" if name == "ModelStreamInfer" else "unary_unary"
        request = service_pb2.ModelInferRequest if "Infer" in name else None
        request = request or getattr(service_pb2, f"{name}Request")
        return getattr(grpc, f"{kind}_rpc_method_handler")(
            getattr(self, name),
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's
        return service_pb2.ServerReadyResponse(ready=self._server.is_ready)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        is_known = request.name in ("front", *self._server.families)
        return service_pb2.ModelReadyResponse(ready=is_known and self._server.is_ready)

    def ModelInfer(self, message: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        request = self._take(message, context)
        try:
            self._server.script(request)
        except GroundserveError as error:
            kind = type(error).__name__
            code = _CODES.get(kind, grpc.StatusCode.UNAVAILABLE)
            context.abort(code, f"{kind}: {error}")
        return _response(_answer(request) if "task" in request.options else _scores(request))

    def ModelStreamInfer(  # noqa: N802
        self, messages: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        request = self._take(next(messages), context)
        try:
            for number, query in enumerate(request.queries):
                for word in query.split():
                    self._server.script(request)
                    part = json.dumps({"query": number, "text": f"{word} "}).encode()
                    yield _streamed({"PART": np.array([part], np.object_)})
            yield _streamed(_answer(request))
        except GroundserveError as error:
            message = f"{type(error).__name__}: {error}"
            yield service_pb2.ModelStreamInferResponse(error_message=message)

    def _take(self, message: Any, context: grpc.ServicerContext) -> Request:
        names = [one.name for one in message.inputs]
        raw = dict(zip(names, message.raw_input_contents, strict=True))
        texts = {
            name: [one.decode() for one in deserialize_bytes_tensor(content)]
            for name, content in raw.items()
            if name != "VIDEO"
        }
        request = Request(
            model=message.model_name,
            request_id=message.id,
            uri=texts.get("VIDEO_URI", [""])[0],
            queries=texts["QUERY"],
            options=json.loads(texts["OPTIONS"][0]),
            context=context,
        )
        self._server.requests.append(request)
        self._server.has_asked.set()
        return request


def _scores(request: Request) -> dict[str, Any]:
    rng = np.random.default_rng(len("".join(request.queries)))
    logits = rng.normal(size=(len(request.queries), 5)).astype(np.float32)
    return {
        "FRAME_INDICES": np.arange(0, 50, 10),
        "PTS_SECONDS": np.arange(5) / 3,
        "FRAME_LOGITS": logits,
        "FRAME_SCORES": 1 / (1 + np.exp(-logits)),
        "SELECTED_FRAMES": np.array([[10, 30]] * len(request.queries)),
        "INFO": _text(json.dumps(make_info().to_json())),
    }


def _answer(request: Request) -> dict[str, Any]:
    answers = [
        Answer(
            query=query,
            task=request.options["task"],
            prompt_token_ids=np.array([1, -200, 7], np.int32),
            token_ids=np.array([5, 2], np.int32),
            text=query,
            moments=(Moment(start_seconds=0.5, end_seconds=2.25, text="é"),),
            stop_reason="eos",
        )
        for query in request.queries
    ]
    generation = GenerationInfo(
        prefix_tokens=3,
        prompt_tokens=2,
        generated_tokens=2 * len(answers),
        seed=None,
        time_range_seconds=None,
        stop_reasons=("eos",) * len(answers),
        is_read=(True,) * len(answers),
    )
    info = make_info(engine={"family": "vtimellm"}).to_json()
    return {
        "FRAME_INDICES": np.array([0, 50]),
        "PTS_SECONDS": np.array([0.0, 2.0]),
        **answer_tensors(answers),
        "INFO": _text(json.dumps({**info, "generation": generation.to_json()})),
    }


def _text(text: str) -> Any:
    return np.array([text.encode()], np.object_)


def _response(tensors: dict[str, Any]) -> Any:
    response = service_pb2.ModelInferResponse()
    for name, array in tensors.items():
        datatype = np_to_triton_dtype(array.dtype)
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        is_text = datatype == "BYTES"
        raw = serialize_byte_tensor(array).item() if is_text else array.tobytes()
        response.raw_output_contents.append(raw)
    return response


def _streamed(tensors: dict[str, Any]) -> Any:
    return service_pb2.ModelStreamInferResponse(infer_response=_response(tensors))

"""Ways to ask a server: Triton's own clients and its public model, or groundserve's client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, Protocol, get_args

import aiohttp
import tritonclient.grpc.aio
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from benchmarks._workload import Workload
from groundserve.client import AsyncClient
from groundserve.client._failures import typed_error
from groundserve.errors import DeadlineExceededError, UnavailableError
from groundserve.results import VideoInfo
from groundserve.triton_messages import CLASS_IN_MESSAGE

Way = Literal["grpc", "http", "client"]
"""Triton's gRPC and HTTP clients with one call of the ensemble, as `perf_analyzer` does; or
`groundserve.client`, whose requests are a call for each of the ensemble's steps."""
WAYS: tuple[Way, ...] = get_args(Way)
MODEL = "videoitg"
SCHEMES: dict[Way, str] = {"grpc": "grpc", "http": "http", "client": "grpc"}
"""Of the URL that a way needs."""


class Send(Protocol):
    """Asks one request of a workload."""

    async def __call__(self, number: int, *, is_cached: bool) -> VideoInfo:
        """Return what the server says of its work.

        Raises:
            GroundserveError: What became of it instead.
        """
        ...


@asynccontextmanager
async def connected(
    way: Way, address: str, workload: Workload, *, timeout_seconds: float
) -> AsyncIterator[Send]:
    """Open a connection.

    Args:
        way: How to ask.
        address: HOST:PORT of that way's protocol.
        workload: What is asked.
        timeout_seconds: When both sides give a request up.
    """
    if way == "client":
        async with AsyncClient(f"grpc://{address}", timeout_seconds=timeout_seconds) as client:
            yield _by_client(client, workload)
    elif way == "grpc":
        async with tritonclient.grpc.aio.InferenceServerClient(address) as server:
            yield _by_ensemble(
                server, tritonclient.grpc, workload, timeout_seconds, client_timeout=timeout_seconds
            )
    else:
        # Without a limit on connections, which would be a queue before the server's own.
        async with tritonclient.http.aio.InferenceServerClient(
            address, conn_limit=0, conn_timeout=timeout_seconds
        ) as server:
            yield _by_ensemble(server, tritonclient.http, workload, timeout_seconds)


def _by_client(client: AsyncClient, workload: Workload) -> Send:
    async def send(number: int, *, is_cached: bool) -> VideoInfo:
        video = workload.video(number, is_cached=is_cached)
        source: dict[str, Any] = (
            {"video_uri": video} if isinstance(video, str) else {"video": video}
        )
        result = await client.score(
            queries=workload.question(number), options=workload.options, **source
        )
        return result.info

    return send


def _by_ensemble(
    server: Any, triton: Any, workload: Workload, timeout_seconds: float, **more: Any
) -> Send:
    parameters = {CLASS_IN_MESSAGE: True}

    async def send(number: int, *, is_cached: bool) -> VideoInfo:
        inputs = []
        for name, array in workload.tensors(number, is_cached=is_cached).items():
            datatype = np_to_triton_dtype(array.dtype)
            tensor = triton.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        try:
            answer = await server.infer(
                MODEL, inputs, timeout=int(timeout_seconds * 1e6), parameters=parameters, **more
            )
        except InferenceServerException as error:
            raise typed_error(error, "the server") from error
        except TimeoutError as error:
            raise DeadlineExceededError("no answer within the timeout") from error
        except aiohttp.ClientError as error:
            raise UnavailableError(f"{type(error).__name__}: {error}") from error
        return VideoInfo.from_json(answer.as_numpy("INFO")[0])

    return send

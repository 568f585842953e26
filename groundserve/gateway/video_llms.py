"""Video-LLMs elsewhere that answer about the frames that are chosen here, each with its time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import httpx2

from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.files import read_objects
from groundserve.frames import data_url

Times = Literal["seconds", "markers"]
"""What stands before each picture: "3.00 s:", or "<3.0 seconds>", Qwen3-VL's own marker."""

_TIME_TEXTS: dict[Times, str] = {"seconds": "{:.2f} s:", "markers": "<{:.1f} seconds>"}
FORWARDED = {"temperature", "top_p", "seed", "stop", "max_tokens", "max_completion_tokens"}
"""Parameters of a chat request that are passed on as they are."""
_TIMEOUT = httpx2.Timeout(120.0, connect=10.0)
"""Seconds without a byte."""
_REFUSALS = (400, 413, 422)


@dataclass(frozen=True, kw_only=True)
class VideoLlm:
    """One line of `--video-llms`: a model behind an OpenAI-compatible endpoint."""

    name: str
    """As callers name it in `model`."""
    base_url: str
    """Up to `/v1`."""
    model: str = ""
    """The endpoint's name of it; `name` where empty."""
    api_key_variable: str = ""
    """Environment variable with the endpoint's key; none is sent where empty."""
    num_frames: int = 32
    """Most frames that it is shown, chosen by the grounder."""
    longest_side: int = 768
    """Larger pictures are shrunk to it."""
    times: Times = "seconds"
    api_key: str | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("num_frames", "longest_side"):
            if type(value := getattr(self, name)) is not int or not 1 <= value <= 8192:
                raise InvalidRequestError(f"{name} must be a whole number from 1 to 8192")
        if self.times not in get_args(Times):
            raise InvalidRequestError(f"times must be one of {', '.join(get_args(Times))}")
        if not self.name or not self.name.isprintable():
            raise InvalidRequestError("name must be a printable text")
        if self.api_key_variable:
            key = os.environ.get(self.api_key_variable)
            if not key:
                raise InvalidRequestError(f"the environment has no {self.api_key_variable}")
            object.__setattr__(self, "api_key", key)
        # It knows what a URL, a model and a key must be.
        EndpointOptions(url=self.base_url, model=self.name, api_key=self.api_key, max_tokens=1)

    def parts(self, pictures: Iterable[tuple[float, bytes]]) -> list[dict[str, Any]]:
        """Return pictures, JPEG with the seconds of each, as parts of a message."""
        content: list[dict[str, Any]] = []
        for seconds, jpeg in pictures:
            text = _TIME_TEXTS[self.times].format(seconds)
            content.append({"type": "text", "text": text})
            content.append({"type": "image_url", "image_url": {"url": data_url(jpeg)}})
        return content


def read_video_llms(path: Path) -> tuple[VideoLlm, ...]:
    """Read a file with a line of JSON for each; InvalidRequestError names what is wrong."""
    found: dict[str, VideoLlm] = {}
    for one in read_objects(path, VideoLlm, "--video-llms"):
        if found.setdefault(one.name, one) is not one:
            raise InvalidRequestError(f"--video-llms: {path}: a second {one.name}")
    return tuple(found.values())


class VideoLlmClients:
    """Connections to all of them; what they say of errors is not passed on."""

    def __init__(self, llms: Sequence[VideoLlm]) -> None:
        """Connect lazily."""
        self.all = {llm.name: llm for llm in llms}
        # No proxy of the environment: it would read questions and pictures.
        self._http = httpx2.AsyncClient(trust_env=False) if llms else None

    async def stream(self, name: str, body: dict[str, Any]) -> AsyncIterator[Any]:
        """Send a request of the chat format, and yield its chunks.

        What it refuses is an InvalidRequestError, anything else an UnavailableError.
        """
        import openai  # half a second and 40 MB, for those who have such models

        llm = self.all[name]
        client = openai.AsyncOpenAI(
            api_key=llm.api_key or "none",
            base_url=llm.base_url,
            timeout=_TIMEOUT,
            max_retries=1,
            http_client=self._http,
        )
        # What the client has no parameter for goes into the body as it is.
        extra = {key: body.pop(key) for key in body.keys() - FORWARDED - {"messages"}}
        try:
            chunks = await client.chat.completions.create(
                **body,
                model=llm.model or llm.name,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=extra,
            )
            async with chunks:
                async for chunk in chunks:
                    yield chunk
        except openai.APIError as error:
            if getattr(error, "status_code", None) in _REFUSALS:
                raise InvalidRequestError("the Video-LLM refuses this request") from None
            raise UnavailableError("the Video-LLM does not answer") from None

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

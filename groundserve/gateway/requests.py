"""The bodies of requests: models made of the dataclasses of options, JSON and forms read into them.

A body is read as it comes, under a cap; what is read is never more than was let in.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields, replace
from email.message import Message
from typing import Any, Literal, NamedTuple, TypeVar, get_type_hints

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, create_model
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from groundserve.errors import InvalidRequestError, RequestCancelledError
from groundserve.gateway.access import Owner
from groundserve.gateway.errors import RefusedError, too_large
from groundserve.gateway.spool import Spool
from groundserve.gateway.store import Video
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from groundserve.strict_json import parse_object, shown

_MAX_PARTS = 64
_Body = TypeVar("_Body", bound=BaseModel)


class Asking(BaseModel):
    """What requests for scores and for answers have in common."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    video_url: str | None = Field(None, description="An allowed http(s) URL of the video.")
    video_id: str | None = Field(None, description="Or the id of a video that was uploaded.")
    queries: list[str] = Field([], description="The questions, up to 32.")
    model: str | None = Field(None, description="Family that is to answer; any with this kind.")
    timeout_seconds: float | None = Field(None, gt=0, description="Longest time to work on it.")
    background: bool = Field(False, description="Answer with a job at once.")


def _options(kind: type[Any]) -> dict[str, Any]:
    types = get_type_hints(kind)
    return {one.name: (types[one.name], one.default) for one in fields(kind)}


class _Spans(Asking):
    span_threshold: float = Field(DEFAULT_SPAN_THRESHOLD, ge=0, le=1)
    span_gap_seconds: float = Field(DEFAULT_SPAN_GAP_SECONDS, ge=0)


class _Streamed(Asking):
    stream: bool = Field(False, description="Send the text as it comes, as server-sent events.")


ScoreBody: Any = create_model("ScoreBody", __base__=_Spans, **_options(ScoreOptions))
"""Of /v1/score: `ScoreOptions` and what says where spans are."""
AskBody: Any = create_model("AskBody", __base__=_Streamed, **_options(AnswerOptions))
"""Of /v1/ask: `AnswerOptions`."""

Kind = Literal["score", "ask"]
BODIES: dict[Kind, Any] = {"score": ScoreBody, "ask": AskBody}
OPTIONS: dict[Kind, type[Any]] = {"score": ScoreOptions, "ask": AnswerOptions}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that was read."""

    kind: Kind
    body: Any
    """One of `BODIES`."""
    options: ScoreOptions | AnswerOptions
    video: Video | None
    """None where its URL is yet to be fetched."""

    @classmethod
    def of(cls, kind: Kind, body: Any, video: Video | None) -> Asked:
        """Make the options; InvalidRequestError where they break a rule."""
        names = [one.name for one in fields(OPTIONS[kind])]
        options = OPTIONS[kind](**{name: getattr(body, name) for name in names})
        return cls(kind=kind, body=body, options=options, video=video)


async def read_asked(
    request: Request, kind: Kind, *, spool: Spool, owner: Owner, held: AsyncExitStack
) -> Asked:
    """Read a request with its video, which `held` keeps from expiring.

    Raises:
        InvalidRequestError: It breaks a rule.
        RefusedError: It is too large, of another type, or names a video that is not there.
    """
    form = Form()
    if content_type(request) == "multipart/form-data":
        form = await read_form(request, spool=spool, owner=owner, held=held, is_temporary=True)
        given = parse_object(form.options or "{}", "options")
        if form.queries:
            given["queries"] = form.queries
        body = BODIES[kind].model_validate_json(json.dumps(given))
    else:
        most = spool.settings.max_body_bytes
        body = await read_json(request, BODIES[kind], max_bytes=most)
    video = form.video
    if [video, body.video_url, body.video_id].count(None) != 2:
        raise InvalidRequestError("give exactly one of video_url, video_id and a file `video`")
    asked = Asked.of(kind, body, video)
    if body.video_id is not None:
        video = held.enter_context(spool.pinned(spool.get(owner, body.video_id)))
    return replace(asked, video=video)


async def read_json(request: Request, model: type[_Body], *, max_bytes: int) -> _Body:
    """Read a body of JSON: each key once, finite numbers, nothing that the model does not know."""
    if content_type(request) != "application/json":
        raise RefusedError(415, "InvalidRequestError", "the body must be application/json")
    body = b"".join([part async for part in capped(request, max_bytes, "the body")])
    parse_object(body, "the body")
    return model.model_validate_json(body)


@dataclass(kw_only=True)
class Form:
    """What a form held."""

    video: Video | None = None
    queries: list[str] = field(default_factory=list)
    options: str = ""


async def read_form(
    request: Request, *, spool: Spool, owner: Owner, held: AsyncExitStack, is_temporary: bool
) -> Form:
    """Read multipart/form-data: a file `video`, which goes to disk as it comes, and fields."""
    form, num_bytes, num_parts = Form(), 0, 0
    events = _events(request, spool.settings.max_video_bytes + spool.settings.max_body_bytes)
    async for headers in events:
        assert isinstance(headers, _Headers), "or the last part was not read to its end"
        num_parts += 1
        if num_parts > _MAX_PARTS:
            raise InvalidRequestError(f"a form may have {_MAX_PARTS} parts")
        if headers.name == "video":
            if form.video is not None:
                raise InvalidRequestError("give one file `video`")
            name = headers.file_name or "<bytes>"
            form.video = await spool.receive(
                _data(events), owner, name=name, is_temporary=is_temporary
            )
            if is_temporary:
                held.enter_context(spool.pinned(form.video))
            else:
                held.callback(spool.delete, form.video)  # unless all of the form is right
            continue
        data = bytearray()
        async for part in _data(events):
            num_bytes += len(part)
            if num_bytes > spool.settings.max_body_bytes:
                raise too_large("all fields of a form", spool.settings.max_body_bytes)
            data += part
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRequestError(f"{shown(headers.name)} must be UTF-8") from None
        if headers.name == "query":
            form.queries.append(text)
        elif headers.name == "options" and not form.options:
            form.options = text
        else:
            raise InvalidRequestError(
                f"a form has the parts video, query and options, got {shown(headers.name)}"
            )
    return form


class _Headers(NamedTuple):
    name: str
    file_name: str


_END = None
_Event = _Headers | bytes | None


async def _data(events: AsyncIterator[_Event]) -> AsyncIterator[bytes]:
    """Yield a part's data to its end."""
    async for event in events:
        if event is _END:
            return
        assert isinstance(event, bytes), "parts have headers first alone"
        yield event


async def _events(request: Request, max_bytes: int) -> AsyncIterator[_Event]:
    """Yield each part's headers, its data, and `_END`; a form that is cut raises."""
    _, parameters = parse_options_header(request.headers.get("content-type"))
    found: list[_Event] = []
    header, name, value, ends = dict[bytes, bytes](), bytearray(), bytearray(), list[bool]()

    def end_header() -> None:
        header[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def end_headers() -> None:
        _, options = parse_options_header(header.get(b"content-disposition", b""))
        header.clear()
        texts = [options.get(key, b"").decode("utf-8", "replace") for key in (b"name", b"filename")]
        found.append(_Headers(*texts))

    try:
        parser = MultipartParser(
            parameters.get(b"boundary", b""),
            {
                "on_header_field": lambda data, start, end: name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": end_header,
                "on_headers_finished": end_headers,
                "on_part_data": lambda data, start, end: found.append(data[start:end]),
                "on_part_end": lambda: found.append(_END),
                "on_end": lambda: ends.append(True),
            },
        )
        async for chunk in capped(request, max_bytes, "a form"):
            parser.write(chunk)
            while found:
                yield found.pop(0)
    except FormParserError:
        raise InvalidRequestError("the body is no multipart/form-data") from None
    if not ends:
        raise InvalidRequestError("the body ends in the middle of multipart/form-data")


async def capped(request: Request, max_bytes: int, what: str) -> AsyncIterator[bytes]:
    """Yield a body's parts, up to a cap that is known before the last one has come."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large(what, max_bytes)
    num_bytes = 0
    try:
        async for part in request.stream():
            num_bytes += len(part)
            if num_bytes > max_bytes:
                raise too_large(what, max_bytes)
            yield part
    except ClientDisconnect:
        raise RequestCancelledError("the caller is gone") from None


def content_type(request: Request) -> str:
    """Return the type of a body in lower case, without parameters; JSON where it has none."""
    message = Message()
    message["content-type"] = request.headers.get("content-type", "application/json")
    return message.get_content_type()

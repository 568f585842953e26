"""Chat completions as OpenAI's clients ask for them: of a text family or a Video-LLM elsewhere.

Both kinds give their answer piece by piece, as `Delta`s.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from groundserve.answers import AnswerResult, OnText
from groundserve.clips import frame_jpegs
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.fetching import is_url
from groundserve.gateway.access import Owner, OwnerDep
from groundserve.gateway.chat_body import ChatBody, Conversation
from groundserve.gateway.errors import ERROR_RESPONSES
from groundserve.gateway.requests import BODIES, Asked, read_json
from groundserve.gateway.routes import DeskDep, json_text
from groundserve.gateway.store import Video
from groundserve.gateway.video_llms import FORWARDED
from groundserve.gateway.work import Desk, pieces_of, sse, streamed, until_left
from groundserve.options import AnswerOptions
from groundserve.results import ScoreResult
from groundserve.strict_json import shown

router = APIRouter(prefix="/v1", responses=ERROR_RESPONSES)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ChatBody.model_json_schema()}},
    }
}
_DATA_URL = re.compile(r"data:(?:video/[\w.+-]+)?;base64,([\w+/]*=*)", re.A)
_STORED = "groundserve://videos/"
_OWN_OPTIONS = {one.name for one in fields(AnswerOptions)} - {
    *("max_new_tokens", "temperature", "top_p", "seed"),
}
"""Which a request may have beside OpenAI's."""
_FINISH_REASONS = {"eos": "stop", "length": "length", "deadline": "length"}


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A piece of an answer."""

    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """What OpenAI's format has no place for; it stands below `groundserve`."""


@router.post("/chat/completions", openapi_extra=_BODY)
async def chat_completions(request: Request, owner: OwnerDep, desk: DeskDep) -> Response:
    """Answer about the video that a message has, in the format of OpenAI's chat completions."""
    request_id: str = request.state.request_id
    async with AsyncExitStack() as held:
        held.enter_context(owner.at_work())
        body = await read_json(request, ChatBody, max_bytes=desk.settings.max_body_bytes)
        talk = Conversation.of(body)
        request.state.questions = [talk.question]
        answer = ask_video_llm if body.model in desk.video_llms.all else ask_family
        deltas = answer(body, talk, desk, owner, request_id)
        head = {"id": f"chatcmpl-{request_id}", "created": int(time.time()), "model": body.model}
        if body.stream:
            has_usage = bool((body.stream_options or {}).get("include_usage"))
            events = _chunks(deltas, head, has_usage=has_usage)
            return await streamed(request, events, held=held.pop_all(), error_event="")
        return json_text(await until_left(request, _completion(deltas, head)))


async def _completion(deltas: AsyncIterator[Delta], head: dict[str, Any]) -> str:
    text, finish_reason, usage = "", "stop", None
    more: dict[str, Any] = {}
    async with aclosing(deltas):  # type: ignore[type-var]  # a generator
        async for delta in deltas:
            text += delta.text
            finish_reason = delta.finish_reason or finish_reason
            usage = delta.usage or usage
            more |= delta.more
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
    answer = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    return json.dumps({**answer, "groundserve": more}, ensure_ascii=False)


async def _chunks(
    deltas: AsyncIterator[Delta], head: dict[str, Any], *, has_usage: bool
) -> AsyncIterator[str]:
    """Yield chunks as events."""
    has_begun, usage = False, None

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
        return sse(json.dumps(chunk, ensure_ascii=False))

    async with aclosing(deltas):  # type: ignore[type-var]  # a generator
        async for delta in deltas:
            usage = delta.usage or usage
            content: dict[str, Any] = {} if has_begun else {"role": "assistant"}
            if delta.text or not has_begun:
                content["content"] = delta.text
            has_begun = True
            choice = {"index": 0, "delta": content, "finish_reason": delta.finish_reason}
            more = {"groundserve": delta.more} if delta.more else {}
            yield event([{**choice, "logprobs": None}], **more)
    if has_usage and usage:
        yield event([], usage=usage)
    yield sse("[DONE]")


async def ask_family(
    body: ChatBody, talk: Conversation, desk: Desk, owner: Owner, request_id: str
) -> AsyncIterator[Delta]:
    """Yield the answer of a text family, token by token; moments come with its end."""
    options = _answer_options(body)
    if len(body.messages) > 1:
        raise UnsupportedError(
            f"messages must be one of the user's: {shown(body.model)} has no prompt for a "
            f"conversation, got one with the role {body.messages[0].role} before the last"
        )
    queries = [talk.question] if talk.question else []
    given = {**options, "queries": queries, "model": body.model}
    ask_body = BODIES["ask"].model_validate_json(json.dumps(given))
    stop, num_told = _Stop(body.stops), 0
    async with AsyncExitStack() as held:
        video = await _video(talk.video, desk, owner, held)
        asked = Asked.of("ask", ask_body, video)

        async def work(tell: OnText) -> Any:
            return await desk.answer(asked, owner, request_id=request_id, on_text=tell)

        pieces = pieces_of(work)
        async for piece in await held.enter_async_context(aclosing(pieces)):  # type: ignore[type-var]
            result = piece if isinstance(piece, AnswerResult) else None
            text = result.answers[0].text[num_told:] if result else str(piece[1])  # type: ignore[index]
            num_told += len(text)
            text, is_over = stop.cut(text, is_last=result is not None)
            if is_over:  # nobody waits for the rest: it is not counted
                yield Delta(text=text, finish_reason="stop")
                return
            if result:
                yield _end_of(result, text)
            elif text:
                yield Delta(text=text)


async def ask_video_llm(
    body: ChatBody, talk: Conversation, desk: Desk, owner: Owner, request_id: str
) -> AsyncIterator[Delta]:
    """Yield what a Video-LLM says of the frames that the grounder chooses for the question."""
    others = body.others()
    llm = desk.video_llms.all[body.model]
    async with AsyncExitStack() as held:
        video = await _video(talk.video, desk, owner, held)
        score_body = BODIES["score"](queries=[talk.question], top_k=llm.num_frames)
        asked = Asked.of("score", score_body, video)
        result = await desk.answer(asked, owner, request_id=request_id)
        assert isinstance(result, ScoreResult), "that is what was asked for"
        ordinals = result.queries[0].selected_frames.tolist()
        seconds = result.queries[0].selected_seconds.tolist()
        make = partial(frame_jpegs, frame_indices=ordinals, longest_side=llm.longest_side)
        pictures = await desk.pictures.make(owner, desk.spool.path(video), make)
        shown_frames = llm.parts(zip(seconds, pictures, strict=True))
        given = {name: getattr(body, name) for name in FORWARDED}
        request = {name: value for name, value in given.items() if value is not None}
        request["messages"] = _with_frames(body, shown_frames)
        frames = [{"frame_index": n, "seconds": s} for n, s in zip(ordinals, seconds, strict=True)]
        more = {"frames": frames}
        chunks = desk.video_llms.stream(body.model, {**others, **request})
        async for chunk in await held.enter_async_context(aclosing(chunks)):  # type: ignore[type-var]
            choice = chunk.choices[0] if chunk.choices else None
            yield Delta(
                text=(choice.delta.content or "") if choice else "",
                finish_reason=choice.finish_reason if choice else None,
                usage=chunk.usage.model_dump(exclude_none=True) if chunk.usage else None,
                more=more,
            )
            more = {}


class _Stop:
    """Holds back the end of a text for as long as it may be the beginning of a stop string."""

    def __init__(self, stops: list[str]) -> None:
        self._stops, self._held = stops, ""

    def cut(self, text: str, *, is_last: bool) -> tuple[str, bool]:
        """Return what of the text may be told, and whether a stop string has come."""
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            return text[: min(found)], True
        longest = max(map(len, self._stops), default=1) - 1
        ends = (text[len(text) - n :] for n in range(min(longest, len(text)), 0, -1))
        is_begun = (end for end in ends if any(stop.startswith(end) for stop in self._stops))
        self._held = "" if is_last else next(is_begun, "")
        return text[: len(text) - len(self._held)], False


def _answer_options(body: ChatBody) -> dict[str, Any]:
    options = {"task": "chat", **body.others()}
    for name in options.keys() - _OWN_OPTIONS:
        raise UnsupportedError(f"{shown(name)} is not supported; leave it out")
    if most := body.max_completion_tokens or body.max_tokens:
        options["max_new_tokens"] = most
    if body.temperature:  # without one nothing is drawn, and a seed changes nothing
        options |= {"temperature": body.temperature, "seed": body.seed}
    if body.top_p != 1:
        options["top_p"] = body.top_p
    return options


def _end_of(result: AnswerResult, text: str) -> Delta:
    answer, counts = result.answers[0], result.generation
    num_prompt = counts.prefix_tokens + counts.prompt_tokens
    return Delta(
        text=text,
        finish_reason=_FINISH_REASONS[answer.stop_reason],
        usage={
            "prompt_tokens": num_prompt,
            "completion_tokens": counts.generated_tokens,
            "total_tokens": num_prompt + counts.generated_tokens,
        },
        more={"moments": [moment.to_json() for moment in answer.moments]},
    )


async def _video(reference: str, desk: Desk, owner: Owner, held: AsyncExitStack) -> Video:
    """Return the video that a message names, kept for as long as `held`."""
    if is_url(reference):
        return await desk.fetched(reference, owner, held)
    if reference.startswith("data:"):
        given = _DATA_URL.fullmatch(reference)
        try:
            content = base64.b64decode(given[1] if given else "!", validate=True)
        except binascii.Error:
            raise InvalidRequestError(
                "a data: URL of a video must be data:video/mp4;base64, and base64"
            ) from None

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        video = await desk.spool.receive(chunks(), owner, name="<data>", is_temporary=True)
    else:
        video = desk.spool.get(owner, reference.removeprefix(_STORED))
    return held.enter_context(desk.spool.pinned(video))


def _with_frames(body: ChatBody, frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages with frames in the video's place."""
    messages = []
    for message in body.messages:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            is_text = part.type == "text"
            content += [{"type": "text", "text": part.text}] if is_text else frames
        is_plain = isinstance(message.content, str)
        messages.append({"role": message.role, "content": message.content if is_plain else content})
    return messages

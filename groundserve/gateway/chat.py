"""Chat completions as OpenAI's clients ask for them: of a text family or a Video-LLM elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from groundserve.gateway.access import OwnerDep
from groundserve.gateway.chat_answers import Delta, ask_family, ask_video_llm
from groundserve.gateway.chat_body import ChatBody, Conversation
from groundserve.gateway.errors import ERROR_RESPONSES, error_body, public_error
from groundserve.gateway.requests import read_json
from groundserve.gateway.routes import DeskDep, json_text
from groundserve.gateway.work import streamed, until_left

router = APIRouter(prefix="/v1", responses={**ERROR_RESPONSES})
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ChatBody.model_json_schema()}},
    }
}


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
            has_usage = bool(body.stream_options and body.stream_options.include_usage)
            events = _chunks(deltas, head, has_usage=has_usage)
            return await streamed(request, events, held=held.pop_all())
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
    """Yield chunks as events; what fails before the first one is raised."""
    has_begun, usage = False, None

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
        return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"

    try:
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
    except Exception as error:
        if not has_begun:
            raise
        yield f"data: {json.dumps(error_body(public_error(error)))}\n\n"
        return
    if has_usage and usage:
        yield event([], usage=usage)
    yield "data: [DONE]\n\n"

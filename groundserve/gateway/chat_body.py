"""What a chat request may hold, and the conversation about one video that is in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.strict_json import shown

_MAX_STOPS = 4
_ABOUT_THE_CALLER = ("user", "safety_identifier", "prompt_cache_key")
_NOT_DONE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"), ()),
    **dict.fromkeys(("logit_bias", "tools", "audio", "functions", "function_call", "store"), ()),
    **dict.fromkeys(("prediction", "reasoning_effort", "verbosity", "metadata"), ()),
    "web_search_options": (),
    "n": (1,),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
}
"""What OpenAI's clients may send, and nobody here does, with its defaults; it may be empty, too."""


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class VideoUrl(_Open):
    """A video: its URL, a data: URL, or the id of one that was uploaded."""

    url: str


class Part(_Open):
    """A text or the video."""

    type: Literal["text", "video_url"]
    text: str = ""
    video_url: VideoUrl | None = None


class Message(_Open):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] = Field(union_mode="left_to_right")

    @property
    def parts(self) -> list[Part]:
        """The content as parts."""
        text = self.content
        return [Part(type="text", text=text)] if isinstance(text, str) else text


class ChatBody(_Open):
    """OpenAI's request; options of `AnswerOptions` may be given beside, such as `task`."""

    model: str = Field(description="A text family, or a Video-LLM of the gateway.")
    messages: list[Message] = Field(min_length=1, max_length=256)
    stream: bool | None = None
    stream_options: dict[str, bool | None] | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: str | list[str] | None = None

    @property
    def stops(self) -> list[str]:
        """Texts that end the answer and are not in it."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    def others(self) -> dict[str, Any]:
        """Return the parameters that OpenAI's clients do not know; refuse what is not done here."""
        if len(self.stops) > _MAX_STOPS or "" in self.stops:
            raise InvalidRequestError(f"stop must be up to {_MAX_STOPS} texts, none of them empty")
        others = {}
        for name, value in (self.model_extra or {}).items():
            if name in _NOT_DONE:
                if value and value not in _NOT_DONE[name]:
                    raise UnsupportedError(f"{name} is not supported; leave it out")
            elif value is not None and name not in _ABOUT_THE_CALLER:
                others[name] = value
        return others


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What messages say of one video."""

    video: str
    """As the message names it."""
    question: str
    """The texts of the last message."""

    @classmethod
    def of(cls, body: ChatBody) -> Conversation:
        """Find the one video and the user's last word, or raise InvalidRequestError."""
        parts = [part for message in body.messages for part in message.parts]
        videos = [part.video_url for part in parts if part.type == "video_url"]
        if len(videos) != 1 or videos[0] is None:
            raise InvalidRequestError(
                f"messages must hold exactly one part of type video_url, got {len(videos)}"
            )
        last = body.messages[-1]
        if last.role != "user":
            raise InvalidRequestError(
                f"the last of messages must have the role user, got {shown(last.role)}"
            )
        texts = [part.text for part in last.parts if part.type == "text"]
        return cls(video=videos[0].url, question="\n".join(texts))

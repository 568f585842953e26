r"""VTimeLLM's records, and its conversations with what of them is learnt.

plain (stage 1)   <s> VIDEO "\n" A tuxedo cat. "\n"      the answer and its newline are learnt
v1 (stages 2, 3)  <s>A chat ... USER: VIDEO "\n" When? ASSISTANT: From 00 to 17.</s>USER: ...
                  the answers are learnt, each with its end
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from groundserve.data_record import Media, Message, Record, media_path, parse_record, require_text
from groundserve.errors import InvalidRequestError
from groundserve.families.plans import VISUAL_TOKEN_ID, FrameStream, SeenVideo, VideoPlan
from groundserve.families.vtimellm import FAMILY
from groundserve.families.vtimellm.plan import VTimeLLMSpec, plan_video
from groundserve.families.vtimellm.prompt import SYSTEM, VIDEO_PLACEHOLDER
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions
from groundserve.strict_json import is_finite_number
from groundserve.tokenizers.llama_tokenizer import END, LlamaTokenizer
from train.config import StageConfig
from train.examples import IGNORE_INDEX, Text
from train.families.text_reader import TextSamples, cut_off

_ANSWER = " ASSISTANT: "
_LAST_STEP = 99
_TIME = re.compile(r"<[se]\d+>")


class Samples(TextSamples):
    """How records become examples: a token for each frame, or one for an image."""

    tokens_per_unit = 1

    def __init__(
        self, config: StageConfig, *, spec: VTimeLLMSpec, tokenizer: LlamaTokenizer
    ) -> None:
        """Tokenize as the stage does."""
        super().__init__(config.data)
        self._spec = spec
        self.num_units = spec.num_frames
        self.streams: tuple[FrameStream, ...] = FAMILY.streams(spec)
        self._tokenizer = tokenizer
        self._render = plain_text if config.stage == "vtimellm-1" else conversation_text

    def plan(self, record: Record, index: VideoIndex, rng: random.Random | None) -> VideoPlan:
        """Sample as serving does."""
        options = AnswerOptions(task="chat", clip_seconds=record.clip_seconds)
        return plan_video(index, options, self._spec)

    def text(self, record: Record, seen: SeenVideo | None) -> Text:
        """Tokenize a conversation, whose times are written already."""
        text = self._render(self._tokenizer, record.messages)
        return cut_off(text, self.config.max_length)


def plain_text(tokenizer: LlamaTokenizer, messages: Sequence[Message]) -> Text:
    """Return a caption; the human's words are left out.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/train/dataset.py::preprocess_plain`.
    """
    if len(messages) != 2 or VIDEO_PLACEHOLDER not in messages[0].text:
        raise InvalidRequestError(
            "conversations must be one question with <image> and one answer in stage vtimellm-1, "
            f"got {len(messages)} messages"
        )
    prompt = _ids(tokenizer, f"{VIDEO_PLACEHOLDER}\n")
    ids = _ids(tokenizer, f"{VIDEO_PLACEHOLDER}\n{messages[1].text}\n")
    targets = [IGNORE_INDEX] * len(prompt) + ids[len(prompt) :]
    return Text(ids=np.array(ids, np.int64), targets=np.array(targets, np.int64))


def conversation_text(tokenizer: LlamaTokenizer, messages: Sequence[Message]) -> Text:
    """Return a conversation in the template v1.

    A round's own tokens are counted to find where its answer begins, as in the reference, which
    leaves a conversation out that comes out at another length.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/train/dataset.py::preprocess_v1`.
    """
    if len(messages) % 2:
        raise InvalidRequestError(
            "conversations must end with an answer in this stage, got one without"
        )
    rounds = [
        f"USER: {question.text}{_ANSWER}{answer.text}"
        for question, answer in zip(messages[::2], messages[1::2], strict=True)
    ]
    rounds[0] = f"{SYSTEM} {rounds[0]}"
    ids = _ids(tokenizer, "".join(f"{one}{END}" for one in rounds))
    targets, place = list(ids), 1
    targets[0] = IGNORE_INDEX
    for one in rounds:
        asked, _, answer = one.partition(_ANSWER)
        if not answer or END in one or _ANSWER in answer:
            break
        # Without the beginning, and the space in front of the answer, which is the answer's.
        num_asked = len(_ids(tokenizer, f"{asked}{_ANSWER}")) - 2
        targets[place : place + num_asked] = [IGNORE_INDEX] * num_asked
        place += len(_ids(tokenizer, one))
    if place != len(ids):
        raise InvalidRequestError(
            f"conversations must not spell {END} or{_ANSWER}within a message, nor have an empty "
            "one: where an answer begins cannot be told"
        )
    if VISUAL_TOKEN_ID not in ids:  # last, where a causal model does not see it
        ids, targets = [*ids, VISUAL_TOKEN_ID], [*targets, IGNORE_INDEX]
    return Text(ids=np.array(ids, np.int64), targets=np.array(targets, np.int64))


def _ids(tokenizer: LlamaTokenizer, text: str) -> list[int]:
    """Tokenize what stands around the video apart."""
    before, *behind = text.split(VIDEO_PLACEHOLDER)
    if len(behind) > 1:
        raise InvalidRequestError(
            f"conversations must have {VIDEO_PLACEHOLDER} or <image> once, got {len(behind)}"
        )
    ids = [tokenizer.begin_id, *tokenizer.encode(before)]
    return ids if not behind else [*ids, VISUAL_TOKEN_ID, *tokenizer.encode(behind[0])]


def parse(fields: Any, *, name: str) -> Record:
    """Check a record of any stage, and write its times.

    `ID.npy` is what is seen. Of our own are a key `video`, whose file is decoded instead, and
    records without `id`, whose `image` is.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/train/dataset.py::LazySupervisedDataset`.
    """
    known = fields if isinstance(fields, dict) else {}
    messages = parse_record(
        {"conversations": known.get("conversations")} if known else fields,
        name=name,
        is_grounding=False,
    ).messages
    first = messages[0].text.replace("<image>", VIDEO_PLACEHOLDER)
    meta = known.get("meta")
    times = {} if meta is None else _times(meta)
    written = [_write(text, times) for text in (first, *(one.text for one in messages[1:]))]
    return Record(
        name=name,
        media=_media(known),
        messages=tuple(
            Message(message.role, text) for message, text in zip(messages, written, strict=True)
        ),
        clip_seconds=_clip(meta) if isinstance(meta, Mapping) else None,
    )


def _media(fields: Mapping[str, Any]) -> Media:
    identity = fields.get("id")
    if fields.get("video") is not None:
        return Media("video", media_path(fields["video"], "video"))
    if identity is None and fields.get("image") is not None:
        return Media("image", media_path(fields["image"], "image"))
    if not identity:
        raise InvalidRequestError("id is missing; the features are in a file that it names")
    stem = str(identity) if type(identity) is int else require_text(identity, "id")
    return Media("features", media_path(f"{stem}.npy", "id"))


def step_of(seconds: float, duration: float) -> str:
    """Return a time as the model writes it: two digits, hundredths of the clip."""
    return f"{min(round(seconds / duration * 100), _LAST_STEP):02d}"


def _times(meta: Any) -> dict[str, str]:
    fields = meta if isinstance(meta, Mapping) else {}
    duration: Any = fields.get("duration")
    tokens = fields.get("token")
    if not isinstance(tokens, Mapping) or not all(map(_is_time, tokens.values())):
        raise InvalidRequestError('meta.token must be {"<s0>": seconds, ...}, none below 0')
    if not is_finite_number(duration) or not duration > 0:
        raise InvalidRequestError(f"meta.duration must be seconds above 0, got {duration!r}")
    return {name: step_of(seconds, duration) for name, seconds in tokens.items()}


def _is_time(value: Any) -> bool:
    return is_finite_number(value) and value >= 0


def _clip(meta: Mapping[str, Any]) -> tuple[float, float] | None:
    split = meta.get("split")
    if split is None:
        return None
    if not isinstance(split, list) or len(split) != 2 or not all(map(is_finite_number, split)):
        raise InvalidRequestError(f"meta.split must be [start, end] in seconds, got {split!r}")
    return (max(float(split[0]), 0.0), float(split[1]))


def _write(text: str, times: Mapping[str, str]) -> str:
    for name, step in times.items():
        text = text.replace(name, step)
    if left := _TIME.search(text):
        raise InvalidRequestError(
            f"meta.token must have the seconds of {left[0]}, as the text has it"
        )
    return text

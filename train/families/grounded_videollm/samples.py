"""Grounded-VideoLLM's records, and its conversations with what of them is learnt."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer

from groundserve.data_record import Media, Message, Record, media_path, parse_record
from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm import FAMILY
from groundserve.families.grounded_videollm.plan import GroundedVideoLLMSpec, Llm, plan_video
from groundserve.families.grounded_videollm.times import (
    GROUNDING_TOKEN,
    NUM_STEPS,
    TEMPLATES,
    VIDEO_PLACEHOLDER,
)
from groundserve.families.plans import VISUAL_TOKEN_ID, SeenVideo, VideoPlan
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions
from train.config import DataConfig
from train.examples import IGNORE_INDEX, Text
from train.families.text_reader import TextSamples

_SECONDS = re.compile(r"<-?\d+(\.\d+)?>")
_WITHOUT_VIDEO = "text"
"""`video_id` of a record whose video is not to be looked at."""


class Samples(TextSamples):
    """How records become examples; times are written where `writes_times`."""

    def __init__(
        self,
        config: DataConfig,
        *,
        spec: GroundedVideoLLMSpec,
        tokenizer: Tokenizer,
        writes_times: bool,
    ) -> None:
        super().__init__(config)
        self._spec = spec
        self.streams = FAMILY.streams(spec)
        self.num_units = spec.num_segments
        self.tokens_per_unit = spec.tokens_per_segment
        self._tokenizer = tokenizer
        self._begin_ids = self._encode("")
        self._end_id = cast(int, tokenizer.token_to_id(TEMPLATES[spec.llm].end))  # as checked
        self._writes_times = writes_times

    def plan(self, record: Record, index: VideoIndex, rng: random.Random | None) -> VideoPlan:
        """Sample as serving does: the reference trains without jitter."""
        return plan_video(index, AnswerOptions(task="chat"), self._spec)

    def text(self, record: Record, seen: SeenVideo | None) -> Text:
        """Tokenize a conversation, with times as steps of its video."""
        assert seen is not None, "these records have videos"
        assert seen.time_range_seconds is not None, "the plan of this family always has one"
        messages = record.messages
        if self._writes_times:
            messages = ask_for_times(messages)
        text = write_conversation(messages, self._spec.llm)
        if self._writes_times:
            text = write_times(text, seen.time_range_seconds[1])
        ids = self._ids(text)
        targets = self._targets(ids, text)
        if len(ids) > self.config.max_length:
            ids, targets = ids[: self.config.max_length], targets[: self.config.max_length]
            # As the reference does: the cut text ends.
            targets[-1] = self._end_id
        if ids.count(VISUAL_TOKEN_ID) != 1:
            raise InvalidRequestError(
                f"conversation must have {VIDEO_PLACEHOLDER} once, among the first "
                f"{self.config.max_length} tokens (max_length)"
            )
        if record.ignores_media:  # last, where a causal model does not see it
            place = ids.index(VISUAL_TOKEN_ID)
            ids = [*ids[:place], *ids[place + 1 :], VISUAL_TOKEN_ID]
            targets = [*targets[:place], *targets[place + 1 :], IGNORE_INDEX]
        return Text(ids=np.array(ids, np.int64), targets=np.array(targets, np.int64))

    def _targets(self, ids: Sequence[int], text: str) -> list[int]:
        """Learn what stands behind each round's `behind`, its end with it.

        A trap: with Phi-3.5 the assistant's own token is learnt as well, for a beginning token is
        counted that there is none.

        Source: WHB139426/Grounded-Video-LLM e26da4e,
        `models/llava_next_video.py::LLAVA_NEXT_VIDEO.make_labels`.
        """
        template, is_phi = TEMPLATES[self._spec.llm], self._spec.llm == "phi3.5"
        targets, place = list(ids), 1
        targets[0] = IGNORE_INDEX
        for number, one in enumerate(text.split(template.end)):
            asked, *answers = one.split(template.behind)
            if len(answers) != 1:
                break
            later = int(is_phi and number > 0)
            num_asked = len(self._ids(f"{asked}{template.behind}")) - 1 - is_phi + later
            targets[place : place + num_asked] = [IGNORE_INDEX] * num_asked
            place += len(self._ids(one)) + later
        return targets[:place] + [IGNORE_INDEX] * (len(ids) - place)

    def _ids(self, text: str) -> list[int]:
        """Tokenize what stands around the video apart; a beginning token stands in front alone."""
        before, *behind = text.split(VIDEO_PLACEHOLDER)
        ids = self._encode(before)
        for one in behind:
            ids += [VISUAL_TOKEN_ID, *self._encode(one)[len(self._begin_ids) :]]
        return ids

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids


def parse(fields: Any, *, name: str) -> Record:
    """Check a record of any stage."""
    known = fields if isinstance(fields, dict) else {}
    messages = parse_record(
        {"conversations": known.get("conversation")} if known else fields,
        name=name,
        is_grounding=False,
    ).messages
    roles = [message.role for message in messages]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise InvalidRequestError(
            "conversation must have human and gpt in turn, and end with gpt, got "
            f"{', '.join(roles)[:120]}"
        )
    return Record(
        name=str(known.get("question_id", name)),
        media=Media("video", media_path(known.get("video_file"), "video_file")),
        messages=messages,
        ignores_media=known.get("video_id") == _WITHOUT_VIDEO,
    )


def ask_for_times(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Put the token that asks for times into each question whose answer says some.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `datasets/mix_sft.py::MixSFT`.
    """
    asked = list(messages)
    for place, (question, answer) in enumerate(zip(messages[::2], messages[1::2], strict=True)):
        if not _SECONDS.search(answer.text):
            continue
        text = f"{GROUNDING_TOKEN}\n{question.text}"
        if VIDEO_PLACEHOLDER in question.text:
            rest = question.text.replace(f"{VIDEO_PLACEHOLDER}\n", "")
            text = f"{VIDEO_PLACEHOLDER} {GROUNDING_TOKEN}\n{rest}"
        asked[2 * place] = Message("user", text)
    return tuple(asked)


def write_conversation(messages: Sequence[Message], llm: Llm) -> str:
    """Put messages into the decoder's template.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `datasets/chat/base_template.py`.
    """
    template = TEMPLATES[llm]
    text = template.system
    for question, answer in zip(messages[::2], messages[1::2], strict=True):
        said = question.text
        if VIDEO_PLACEHOLDER in said and GROUNDING_TOKEN not in said:
            said = f"{VIDEO_PLACEHOLDER}\n{said.replace(VIDEO_PLACEHOLDER, '').strip()}".strip()
        text += f"{template.user}{said}{template.behind}{answer.text}{template.end}"
    return text


def write_times(text: str, duration: float) -> str:
    """Write seconds in angle brackets as steps of the video, rounded towards 0.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `datasets/mix_sft.py::MixSFT`.
    """

    def step(match: re.Match[str]) -> str:
        return f"<{min(int(NUM_STEPS * float(match[0].strip('<>')) / duration), NUM_STEPS)}>"

    return _SECONDS.sub(step, text)

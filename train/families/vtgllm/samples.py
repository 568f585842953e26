r"""VTG-LLM's records, the frames and crops that training draws, and what of a text is learnt.

<s>[INST] <<SYS>>\n \n<</SYS>>\n\n<Video>VIDEO</Video> The video ... seconds. When? [/INST] At ...
the answers are learnt, each with the space behind it and its end

Shape letters: T frames, S their side.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from groundserve.data_record import Media, Message, Record, Role, media_path, require_text
from groundserve.errors import InvalidRequestError
from groundserve.families.plans import VISUAL_TOKEN_ID, SeenVideo, VideoPlan
from groundserve.families.vtgllm import VTGLLM
from groundserve.families.vtgllm.plan import VTGLLMSpec, plan_frames, plan_video
from groundserve.families.vtgllm.prompt import VIDEO_PLACEHOLDER
from groundserve.families.vtgllm.times import time_sentence
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions
from groundserve.tokenizers.llama_added_tokens import AddedTokensLlamaTokenizer
from groundserve.tokenizers.llama_tokenizer import BEGIN, END
from train.config import DataConfig
from train.examples import IGNORE_INDEX, Text
from train.families.text_reader import TextSamples, cut_off

_FAMILY = VTGLLM()
_ASKED = "[/INST] "
_KEYS: tuple[tuple[Role, str], ...] = (("user", "q"), ("assistant", "a"))
_AREAS, _SHAPES, _TRIES = (0.5, 1.0), (3 / 4, 4 / 3), 10
"""Of a crop: its share of the frame, width over height, and how often they are drawn till it fits
in."""


class Samples(TextSamples):
    """How records become examples; each frame is a unit."""

    def __init__(
        self, config: DataConfig, *, spec: VTGLLMSpec, tokenizer: AddedTokensLlamaTokenizer
    ) -> None:
        super().__init__(config)
        self._spec = spec
        self.streams = _FAMILY.streams(spec)
        self.num_units = spec.num_frames
        self.tokens_per_unit = spec.tokens_per_frame
        self.num_pooled = spec.num_slots
        self._tokenizer = tokenizer
        self._place_id = tokenizer.special_id(VIDEO_PLACEHOLDER)

    def plan(self, record: Record, index: VideoIndex, rng: random.Random | None) -> VideoPlan:
        """Draw the frames; sample as serving does where nothing is trained."""
        if rng is None:
            return plan_video(index, AnswerOptions(task="chat"), self._spec)
        num_frames = self._spec.num_frames
        drawn = draw_frames(index.num_source_frames, num_frames=num_frames, rng=rng)
        return plan_frames(index, drawn, self._spec, num_frames=num_frames)

    def augment(self, frames: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
        """Crop all frames of the video alike."""
        return crop(frames, *draw_crop(frames.shape[1], rng))

    def front_arrays(self, seen: SeenVideo) -> tuple[NDArray[np.float32], ...]:
        """Return the second of each frame, where the model has an embedding of them."""
        return _FAMILY.front_arrays(seen, self._spec)

    def text(self, record: Record, seen: SeenVideo | None) -> Text:
        """Tokenize a conversation, and count a round's tokens to find where its answer begins.

        What stands behind a round in which that cannot be told is not learnt.

        Source: gyxxyg/VTG-LLM ce13f3e,
        `vtgllm/datasets/datasets/video_instruct_dataset.py::preprocess_for_llama_v2`.
        """
        assert seen is not None, "these records have videos"
        assert seen.model_seconds is not None, "the plan of this family always has them"
        times = time_sentence(seen.model_seconds, in_tokens=True)
        text = write_conversation(record, f"{times} seconds. ")
        ids = [self._tokenizer.begin_id, *self._tokenizer.encode(text)]
        targets, place = list(ids), 1
        targets[0] = IGNORE_INDEX
        for one in text.split(END):
            asked, *answers = one.split(_ASKED)
            if len(answers) != 1:
                break
            # Without the space in front of the answer, which is the answer's.
            num_asked = len(self._tokenizer.encode(f"{asked}{_ASKED}")) - 1
            targets[place : place + num_asked] = [IGNORE_INDEX] * num_asked
            place += 1 + len(self._tokenizer.encode(one))
        targets[place:] = [IGNORE_INDEX] * (len(ids) - place)
        if (found := ids.count(self._place_id)) != 1:
            raise InvalidRequestError(f"QA must not spell {VIDEO_PLACEHOLDER}, got {found - 1}")
        ids[ids.index(self._place_id)] = VISUAL_TOKEN_ID
        whole = Text(ids=np.array(ids, np.int64), targets=np.array(targets, np.int64))
        return cut_off(whole, self.config.max_length)


def write_conversation(record: Record, times: str) -> str:
    """Put messages into Llama-2's template, whose system text is a space.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/conversation/conversation_video.py`.
    """
    asked = f"<<SYS>>\n \n<</SYS>>\n\n<Video>{VIDEO_PLACEHOLDER}</Video> {times}"
    text = ""
    for message in record.messages:
        if not (message.text or asked):
            continue
        if message.role == "user":
            text += f"{BEGIN if text else ''}[INST] {asked}{message.text} [/INST]"
            asked = ""
        else:
            text += f" {message.text} {END}"
    return text


def parse(fields: Any, *, name: str) -> Record:
    """Check a record."""
    if not isinstance(fields, Mapping):
        raise InvalidRequestError(f"a record must be an object, got {type(fields).__name__}")
    rounds = fields.get("QA")
    if not isinstance(rounds, list) or not rounds or not all(isinstance(x, dict) for x in rounds):
        raise InvalidRequestError('QA must be a list of {"q": text, "a": text}, at least one')
    return Record(
        name=name,
        media=Media("video", media_path(fields.get("video"), "video")),
        messages=tuple(
            Message(role, require_text(one.get(key), f"{key} of QA"))
            for one in rounds
            for role, key in _KEYS
        ),
    )


def draw_frames(
    num_source_frames: int, *, num_frames: int, rng: random.Random
) -> NDArray[np.int64]:
    """Draw a frame of each of T equal spans but their last; of a short video any T.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/processors/video_processor.py::load_video`.
    """
    num_drawn = min(num_frames, num_source_frames)
    ends = np.linspace(0, num_source_frames, num_drawn + 1).astype(int).tolist()
    spans = [range(first, behind - 1) for first, behind in pairwise(ends)]
    if all(spans):
        return np.array([rng.choice(span) for span in spans], np.int64)
    return np.array(sorted(rng.sample(range(num_source_frames), num_drawn)), np.int64)


def draw_crop(side: int, rng: random.Random) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a part of a square frame.

    Source: torchvision's `RandomResizedCrop`, with what `AlproVideoTrainProcessor` gives it.
    """
    for _ in range(_TRIES):
        area = side**2 * rng.uniform(*_AREAS)
        shape = math.exp(rng.uniform(*map(math.log, _SHAPES)))
        width, height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < width <= side and 0 < height <= side:
            return rng.randint(0, side - height), rng.randint(0, side - width), height, width
    return 0, 0, side, side


def crop(
    frames: NDArray[np.uint8], top: int, left: int, height: int, width: int
) -> NDArray[np.uint8]:
    """Resize a part of frames (T, S, S, 3) to their size.

    Bicubic interpolation goes beyond 0 and 255; there, as in the reference, bytes wrap around.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/processors/`: `video_processor.py`'s
    `AlproVideoTrainProcessor`, `functional_video.py::resized_crop`.
    """
    part = torch.from_numpy(frames[:, top : top + height, left : left + width])
    clip = part.permute(3, 0, 1, 2).float()  # (3, T, height, width)
    resized = F.interpolate(clip, size=frames.shape[1:3], mode="bicubic", align_corners=False)
    # By way of int32: what a float beyond a byte becomes differs between processors.
    wrapped = resized.to(torch.int32).to(torch.uint8).permute(1, 2, 3, 0)
    return np.ascontiguousarray(wrapped.numpy())

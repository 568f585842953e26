"""The heads as the model `front` has them: what they ask, and what another model computes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import OnText, StopReason
from groundserve.limits import Limits
from groundserve.options import (
    AnswerOptions,
    ScoreOptions,
    parse_answer_options,
    parse_options,
)
from python_backend.answers import Prompts, TextStream, read_answers
from python_backend.engine import EngineDirectory
from python_backend.features import VideoFeatures
from python_backend.generate import Generated, Generation
from python_backend.ground import Questions
from python_backend.select import select_for_questions
from python_backend.stopwatch import Stopwatch
from python_backend.triton._answer import Answer, answer_tensors
from python_backend.triton._models import StageModels
from python_backend.triton._tensors import (
    Tensors,
    divided,
    joined,
    json_tensor,
    read_options_text,
    read_queries,
)


class ServedFramesHead:
    """One logit a frame, from `grounding`, and the frames that the selector takes."""

    def __init__(self, engine: EngineDirectory, limits: Limits) -> None:
        self._limits = limits
        self._model = engine.manifest.model
        self._tokenizer = engine.open_tokenizer()

    def read(self, tensors: Tensors) -> tuple[ScoreOptions, Questions]:
        """Return OPTIONS and QUERY of a request, checked and tokenized."""
        options = parse_options(read_options_text(tensors, self._limits), limits=self._limits)
        return options, Questions.parse(
            read_queries(tensors, self._limits),
            tokenizer=self._tokenizer,
            model=self._model,
            limits=self._limits,
        )

    def answer(
        self,
        video: VideoFeatures,
        asked: Questions,
        options: ScoreOptions,
        models: StageModels,
        on_text: OnText | None = None,
    ) -> Answer:
        """Answer what was asked; there is no text to tell."""
        watch = Stopwatch()
        text_ids, text_offsets = joined(asked.text_ids)
        with watch.measure("ground"):
            (frame_logits,) = models.call(
                "grounding",
                {"FEATURES": video.features, "TEXT_IDS": text_ids, "TEXT_OFFSETS": text_offsets},
                "FRAME_LOGITS",
            )
        with watch.measure("select"):
            selection = select_for_questions(
                frame_logits, video.frame_indices, options, deadline=models.deadline
            )
        return Answer(
            outputs={
                "FRAME_INDICES": video.frame_indices,
                "PTS_SECONDS": video.pts_seconds,
                "FRAME_LOGITS": frame_logits,
                "FRAME_SCORES": selection.frame_scores,
                "SELECTED_FRAMES": selection.selected_frames,
            },
            info=video.info_with(watch.timing_ms),
        )


class ServedTextHead:
    """Answers in text, of tokens that `generation` generates."""

    def __init__(self, engine: EngineDirectory, limits: Limits) -> None:
        self._limits = limits
        self._room = engine.room
        self._family = engine.manifest.text_seam
        self._tokenizer = engine.open_answer_tokenizer()

    def read(self, tensors: Tensors) -> tuple[AnswerOptions, Prompts]:
        """Return OPTIONS and QUERY of a request, checked and tokenized."""
        options = parse_answer_options(
            read_options_text(tensors, self._limits), limits=self._limits
        )
        return options, Prompts.parse(
            read_queries(tensors, self._limits),
            options,
            family=self._family,
            tokenizer=self._tokenizer,
            room=self._room,
            limits=self._limits,
        )

    def answer(
        self,
        video: VideoFeatures,
        asked: Prompts,
        options: AnswerOptions,
        models: StageModels,
        on_text: OnText | None = None,
    ) -> Answer:
        """Answer what was asked; `on_text` is told the text as it comes."""
        watch = Stopwatch()
        prompts = asked.of(video.seen)
        prompt_ids, prompt_offsets = joined([prompt.token_ids for prompt in prompts])
        job = {
            "seen": asdict(video.seen),
            "num_prefix": prompts[0].num_prefix,
            "position_ids": [
                None if one.position_ids is None else one.position_ids.tolist() for one in prompts
            ],
            "options": {
                name: getattr(options, name)
                for name in ("max_new_tokens", "temperature", "top_p", "seed")
            },
            "end_ids": sorted(self._tokenizer.end_ids),
            "is_streamed": on_text is not None,
        }
        stream = on_text and TextStream(self._tokenizer, on_text)
        tokens = models.cancellation.receiving(stream.add) if stream else nullcontext()
        with watch.measure("generate"), tokens:
            token_ids, token_offsets, said = models.call(
                "generation",
                {
                    "FEATURES": video.features,
                    "PROMPT_IDS": prompt_ids,
                    "PROMPT_OFFSETS": prompt_offsets,
                    "JOB": json_tensor(job),
                },
                *("TOKEN_IDS", "TOKEN_OFFSETS", "GENERATION"),
            )
        answers_ids = divided(token_ids, token_offsets)
        if stream:
            stream.complete(answers_ids)
        generation = _read_generation(answers_ids, said[0])
        answers = read_answers(asked, prompts, generation, family=self._family, seen=video.seen)
        return Answer(
            outputs={
                "FRAME_INDICES": video.frame_indices,
                "PTS_SECONDS": video.pts_seconds,
                **answer_tensors(answers.answers),
            },
            info={
                **video.info_with(watch.timing_ms),
                "generation": answers.generation.to_json(),
            },
        )


ServedHead = ServedFramesHead | ServedTextHead
"""What stands behind FEATURES, by the family of the engines."""


def open_served_head(engine: EngineDirectory, limits: Limits) -> ServedHead:
    """Open the tokenizer of the engines, and the head of their family."""
    kind = ServedTextHead if engine.manifest.head == "text" else ServedFramesHead
    return kind(engine, limits)


def _read_generation(answers_ids: Sequence[NDArray[np.int32]], said: bytes) -> Generation:
    facts = json.loads(said)
    reasons: list[StopReason] = facts.pop("stop_reasons")
    generated = (
        Generated(token_ids=ids.astype(np.int32), stop_reason=reason)
        for ids, reason in zip(answers_ids, reasons, strict=True)
    )
    return Generation(answers=tuple(generated), **facts)

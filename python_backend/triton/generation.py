"""The model `generation`: features and prompts -> the tokens of the answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from groundserve.families.plans import Prompt, SeenVideo
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.parent_watch import end_with_parent
from python_backend.arrays import copy
from python_backend.generate import OnToken, Turns
from python_backend.heads import TextHead
from python_backend.triton._cancellation import cancellation_of, token_sender
from python_backend.triton._context import ModelContext
from python_backend.triton._heap import keep_heap
from python_backend.triton._io import KeptRequest, answer, attempt, read_deadline, read_tensors
from python_backend.triton._metrics import Metrics
from python_backend.triton._tensors import Tensors, divided, joined, json_tensor
from python_backend.triton._turns import Together, TurnTaking, Work
from python_backend.warm_up import warm_up_text_head


class TritonPythonModel:
    """Answers one question after another; requests take turns with theirs.

    vLLM has those of all requests at once.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Open the profile's decoder, and what stands before it."""
        context = ModelContext.load(args)
        self._limits = Limits.from_environment()
        manifest = context.engine.manifest
        if manifest.device == "cpu":
            keep_heap()
        self._metrics = Metrics()
        # All cores for each instance, as for `grounding`.
        self._head = TextHead.open(
            context.engine, limits=self._limits, meter=self._metrics, num_threads=available_cpus()
        )
        if manifest.device == "cuda":
            warm_up_text_head(self._head, manifest)
        self._turns = Together() if manifest.stages.grounder == "vllm" else TurnTaking()
        end_with_parent()

    def execute(self, requests: list[Any]) -> list[None]:
        """Take each call up; its answer, or its error, is sent when it is done."""
        for request in requests:
            self._take_up(request)
        return [None] * len(requests)

    def _take_up(self, request: Any) -> None:
        kept = KeptRequest(request)

        def finish(result: Tensors | Exception) -> None:
            kept.send(answer(kept, result))

        def begin() -> Work:
            deadline = read_deadline(kept, self._limits, is_cancelled=cancellation_of(kept))
            # Copies: Triton takes the memory back when `execute` returns. FEATURES alone stay on
            # the GPU: the largest tensor, which the decoder's front reads there.
            tensors = read_tensors(request, stay_on_gpu=("FEATURES",))
            tensors = {name: copy(one) for name, one in tensors.items()}
            turns = self._generate(tensors, deadline, token_sender(kept))
            return Work(turns=turns, deadline=deadline, finish=finish)

        work = attempt(begin)
        if isinstance(work, Exception):
            finish(work)
        else:
            self._turns.add(work)

    def _generate(
        self, tensors: Tensors, deadline: Deadline, send_token: OnToken
    ) -> Turns[Tensors]:
        job = json.loads(tensors["JOB"][0])
        told: dict[str, Any] = job["seen"]
        # JSON has lists alone.
        tuples = {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
        seen = SeenVideo(**told | tuples)
        generation = yield from self._head.generator.answer(
            tensors["FEATURES"],
            self._head.family.front_arrays(seen, self._head.model),
            [
                Prompt(
                    token_ids=token_ids,
                    num_prefix=job["num_prefix"],
                    position_ids=None if position_ids is None else np.array(position_ids),
                )
                for token_ids, position_ids in zip(
                    divided(tensors["PROMPT_IDS"], tensors["PROMPT_OFFSETS"]),
                    job["position_ids"],
                    strict=True,
                )
            ],
            AnswerOptions(**job["options"]),
            end_ids=frozenset(job["end_ids"]),
            deadline=deadline,
            meter=self._metrics,
            others_wait=self._turns.others_wait,
            on_token=send_token if job["is_streamed"] else None,
        )
        token_ids, token_offsets = joined([one.token_ids for one in generation.answers])
        return {
            "TOKEN_IDS": token_ids,
            "TOKEN_OFFSETS": token_offsets,
            "GENERATION": json_tensor(
                {
                    "prefix_tokens": generation.prefix_tokens,
                    "prompt_tokens": generation.prompt_tokens,
                    "seed": generation.seed,
                    "stop_reasons": [one.stop_reason for one in generation.answers],
                }
            ),
        }

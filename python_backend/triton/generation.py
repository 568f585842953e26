"""The model `generation`: features and questions -> answers in text, with times."""

from __future__ import annotations

import time
from typing import Any

from groundserve.cpus import available_cpus
from groundserve.deadline import Deadline
from groundserve.families.plans import SeenVideo
from groundserve.heartbeat import start_heartbeat
from groundserve.limits import Limits
from groundserve.options import parse_answer_options
from python_backend.answers import Prompts
from python_backend.arrays import Array, copy
from python_backend.generate import Turns
from python_backend.heads import TextHead
from python_backend.stopwatch import Stopwatch
from python_backend.triton._answer import Answer
from python_backend.triton._answer_tensors import answer_tensors
from python_backend.triton._asked import read_options_text
from python_backend.triton._checks import check_features, check_finite, check_seen
from python_backend.triton._context import ModelContext
from python_backend.triton._heap import keep_heap
from python_backend.triton._io import (
    KeptRequest,
    answer,
    attempt,
    read_deadline,
    read_tensors,
)
from python_backend.triton._metrics import Metrics
from python_backend.triton._report import observe_log, observe_metrics
from python_backend.triton._stage_info import StageInfo
from python_backend.triton._tensors import Tensors, read_queries
from python_backend.triton._turns import Finish, TurnTaking, Work
from python_backend.warm_up import warm_up_text_head


class TritonPythonModel:
    """Answers one question after another; requests take turns with theirs."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the profile's decoder, what stands before it and the checkpoint's tokenizer."""
        context = ModelContext.load(args)
        self._limits = Limits.from_environment()
        self._manifest = context.engine.manifest
        if self._manifest.device == "cpu":
            keep_heap()
        metrics = Metrics()
        # All cores for each instance, as for `grounding`.
        self._head = TextHead.open(
            context.engine, limits=self._limits, meter=metrics, num_threads=available_cpus()
        )
        if self._manifest.device == "cuda":
            warm_up_text_head(self._head, self._manifest)
        self._observers = [observe_metrics(metrics), observe_log("generation")]
        self._turns = TurnTaking()
        start_heartbeat()

    def execute(self, requests: list[Any]) -> list[None]:
        """Take each request up; its answer, or its error, is sent when it is done."""
        for request in requests:
            self._take_up(request)
        return [None] * len(requests)

    def _take_up(self, request: Any) -> None:
        started = time.perf_counter()
        kept = KeptRequest(request)

        def finish(result: Answer | Exception) -> None:
            for observe in self._observers:
                attempt(observe, kept, result, time.perf_counter() - started)
            kept.send(answer(kept, result))

        def begin() -> Work:
            # FEATURES alone: the largest tensor, which the decoder's front reads on the GPU.
            # Copies: Triton takes the memory back when `execute` returns.
            tensors = read_tensors(request, stay_on_gpu=("FEATURES",))
            deadline = read_deadline(kept, self._limits)
            return self._begin({name: copy(one) for name, one in tensors.items()}, deadline, finish)

        work = attempt(begin)
        if isinstance(work, Exception):
            finish(work)
        else:
            self._turns.add(work)

    def _begin(self, tensors: Tensors, deadline: Deadline, finish: Finish) -> Work:
        info = StageInfo.read(tensors, "STAGE_INFO", deadline)
        # Before OPTIONS are read again: each step checks first whether anybody still waits.
        info.deadline.check()
        options = parse_answer_options(
            read_options_text(tensors, self._limits), limits=self._limits
        )
        check_features(tensors, manifest=self._manifest, limits=self._limits)
        num_units = tensors["FEATURES"].shape[0]
        check_finite(tensors, "FEATURES")
        seen = check_seen(info.seen, num_units=num_units, manifest=self._manifest)
        info.check_engine(self._manifest.engine_id)
        queries = self._head.parse(read_queries(tensors, self._limits), options)
        turns = self._generate(tensors["FEATURES"], queries, seen, info)
        return Work(turns=turns, deadline=info.deadline, finish=finish)

    def _generate(
        self, features: Array, queries: Prompts, seen: SeenVideo, info: StageInfo
    ) -> Turns[Answer]:
        watch = Stopwatch()
        with watch.measure("generate"):
            answers = yield from self._head.answer(
                features,
                queries,
                seen,
                deadline=info.deadline,
                others_wait=self._turns.others_wait,
            )
        info = info.with_timing(watch.timing_ms).with_generation(answers.generation)
        outputs = {**answer_tensors(answers.answers), "INFO": info.to_info()}
        return Answer(outputs=outputs, timing_ms=watch.timing_ms, report=info.facts)

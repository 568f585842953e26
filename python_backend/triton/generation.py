"""The model `generation`: features and questions -> answers in text, with times."""

from __future__ import annotations

from typing import Any

from groundserve.cpus import available_cpus
from groundserve.deadline import Deadline
from groundserve.heartbeat import start_heartbeat
from groundserve.limits import Limits
from groundserve.options import parse_answer_options
from python_backend.heads import TextHead
from python_backend.stopwatch import Stopwatch
from python_backend.triton._answer import Answer
from python_backend.triton._answer_tensors import answer_tensors
from python_backend.triton._asked import read_options_text
from python_backend.triton._checks import check_features, check_finite, check_seen
from python_backend.triton._context import ModelContext
from python_backend.triton._heap import keep_heap
from python_backend.triton._io import answer_each
from python_backend.triton._metrics import Metrics
from python_backend.triton._report import observe_log, observe_metrics
from python_backend.triton._stage_info import StageInfo
from python_backend.triton._tensors import Tensors, read_queries
from python_backend.warm_up import warm_up_text_head


class TritonPythonModel:
    """Answers the questions of one request one after another."""

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
        start_heartbeat()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with text or an error."""
        return answer_each(
            requests,
            self._generate,
            limits=self._limits,
            observers=self._observers,
            # FEATURES alone: the largest tensor, which the decoder's front reads on the GPU.
            stay_on_gpu=("FEATURES",),
        )

    def _generate(self, tensors: Tensors, deadline: Deadline) -> Answer:
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
        watch = Stopwatch()
        with watch.measure("generate"):
            answers = self._head.answer(
                tensors["FEATURES"],
                self._head.parse(read_queries(tensors, self._limits), options),
                seen,
                deadline=info.deadline,
            )
        info = info.with_timing(watch.timing_ms).with_generation(answers.generation)
        outputs = {**answer_tensors(answers.answers), "INFO": info.to_info()}
        return Answer(outputs=outputs, timing_ms=watch.timing_ms, report=info.facts)

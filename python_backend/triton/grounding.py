"""The model `grounding`: features and questions -> one logit a frame and question."""

from __future__ import annotations

from typing import Any

from groundserve.cpus import available_cpus
from groundserve.deadline import Deadline
from groundserve.heartbeat import start_heartbeat
from groundserve.limits import Limits
from python_backend.ground import Questions, ground_questions
from python_backend.stopwatch import Stopwatch
from python_backend.triton._answer import Answer
from python_backend.triton._checks import check_features
from python_backend.triton._context import ModelContext
from python_backend.triton._heap import keep_heap
from python_backend.triton._io import answer_each
from python_backend.triton._metrics import Metrics
from python_backend.triton._report import observe_log, observe_metrics
from python_backend.triton._stage_info import StageInfo
from python_backend.triton._tensors import Tensors, read_queries
from python_backend.warm_up import warm_up_grounder


class TritonPythonModel:
    """Scores the questions of one request one after another."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the profile's grounder and the checkpoint's tokenizer."""
        context = ModelContext.load(args)
        self._limits = Limits.from_environment()
        self._manifest = context.engine.manifest
        if self._manifest.device == "cpu":
            keep_heap()
        self._tokenizer = context.engine.open_tokenizer()
        # All cores for each instance: a question that is asked alone has them, and the threads of
        # one that waits sleep.
        self._grounder = context.engine.open_grounder(num_threads=available_cpus())
        # On a CPU the first pass takes no longer than the next: see `warm_up`.
        if self._manifest.device == "cuda":
            warm_up_grounder(self._grounder, self._manifest)
        self._observers = [observe_metrics(Metrics()), observe_log("grounding")]
        start_heartbeat()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with logits or an error."""
        return answer_each(
            requests,
            self._ground,
            limits=self._limits,
            observers=self._observers,
            # FEATURES alone: the largest tensor, which the grounder reads on the GPU.
            stay_on_gpu=("FEATURES",),
        )

    def _ground(self, tensors: Tensors, deadline: Deadline) -> Answer:
        info = StageInfo.read(tensors, "STAGE_INFO", deadline)
        info.deadline.check()
        check_features(tensors, manifest=self._manifest, limits=self._limits)
        info.check_engine(self._manifest.engine_id)
        features = tensors["FEATURES"]
        watch = Stopwatch()
        with watch.measure("ground"):
            questions = Questions.parse(
                read_queries(tensors, self._limits),
                tokenizer=self._tokenizer,
                model=self._manifest.model,
                limits=self._limits,
            )
            frame_logits = ground_questions(
                features, questions, self._grounder, deadline=info.deadline
            )
        outputs = {
            "FRAME_LOGITS": frame_logits,
            "STAGE_INFO_2": info.with_timing(watch.timing_ms).to_tensor(),
        }
        return Answer(outputs=outputs, timing_ms=watch.timing_ms)

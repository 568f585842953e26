"""The model `front`: a video and questions -> the answer, by calls to the models of the stages.

One process works on several requests, each in a thread of its own. Clients call this model; the
public ensemble, which is named after the family, has it as its only step. Where the family answers
in text, `front_stream` is the same model once more, whose callers get the text as it comes: Triton
lets a model send either one response a request, or several.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import triton_python_backend_utils as pb_utils

from groundserve.arguments import check_head
from groundserve.errors import UnavailableError
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits, parse_number
from groundserve.media import MediaWorkers, VideoSource
from groundserve.options import Head
from groundserve.runtime.deadline import POLL_SECONDS, Deadline
from groundserve.runtime.parent_watch import end_with_parent
from groundserve.runtime.places import Places
from groundserve.runtime.progress import progress_sender
from groundserve.triton_messages import HEAD
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.chunks import NUM_SERVED_ENCODES
from python_backend.fair_share import LIGHT_PIXELS_VARIABLE, FairShare
from python_backend.features import FeatureExtractor
from python_backend.sources import ALLOWED_ROOTS_VARIABLE, open_source, parse_allowed_roots
from python_backend.triton._answer import Answer, log_line
from python_backend.triton._cancellation import CancellationToken
from python_backend.triton._context import ModelContext
from python_backend.triton._heads import open_served_head
from python_backend.triton._io import (
    KeptRequest,
    answer,
    attempt,
    read_deadline,
    read_tensors,
)
from python_backend.triton._metrics import Metrics
from python_backend.triton._models import StageModels
from python_backend.triton._tensors import json_tensor, read_optional_text, read_parameters

_MAX_URI_BYTES = 16 * 1024
"""More than the longest path of Linux (4,096 bytes) takes with each byte escaped."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One request that was taken up."""

    request: KeptRequest
    """To be answered once."""
    started: float
    """On the clock of `time.perf_counter()`."""
    source: VideoSource
    options: Any
    """As the head read them."""
    asked: Any
    """Its questions, likewise."""
    deadline: Deadline
    """Asked whether it is cancelled, it ends `cancellation` as well."""
    cancellation: CancellationToken
    """Goes along with the calls made for it."""


class TritonPythonModel:
    """Takes requests up as they come: works on `max_running`, lets `max_waiting` wait."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the operator's settings; the processes that demux start later."""
        context = ModelContext.load(args)
        self._metrics = Metrics()
        self._limits = Limits.from_environment()
        self._allowed_roots = parse_allowed_roots(
            # Bytes either way: names in the environment need not be UTF-8, see `sources`.
            context.parameters["allowed_roots"].encode()
            if "allowed_roots" in context.parameters
            else os.environb.get(os.fsencode(ALLOWED_ROOTS_VARIABLE), b"")
        )
        manifest = self._manifest = context.engine.manifest
        self._inputs = VisionInputs.of(manifest.seam, manifest.model)
        self._head = open_served_head(context.engine, self._limits)
        cache = CacheConfig.from_environment()
        max_running = int(context.parameters["max_running"])
        # A video is open from its first packet to the last: enough of them to keep the decoders
        # busy. The others are in the cache, or wait. `serving.memory` counts on this bound.
        num_decoders = int(context.parameters["num_decoders"])
        num_readers = min(max_running, 2 * num_decoders)
        self._is_streamed = context.parameters.get("is_streamed") == "true"
        self._extractor = FeatureExtractor(
            workers=MediaWorkers(limits=self._limits, num_workers=num_readers),
            manifest=manifest,
            limits=self._limits,
            cache=FeatureCache(cache, meter=self._metrics) if cache else None,
            meter=self._metrics,
            num_encodes=NUM_SERVED_ENCODES,
            share=FairShare(
                # One of the processes that read videos is left to the small ones.
                num_seats=max(1, num_readers - 1),
                num_decoders=num_decoders,
                light_pixels=int(
                    parse_number(
                        LIGHT_PIXELS_VARIABLE,
                        os.environ.get(LIGHT_PIXELS_VARIABLE, context.parameters["light_pixels"]),
                    )
                ),
            ),
        )
        # Refused here, where it is counted and logged as every other refusal is: Triton counts one
        # that finds its queue full twice in an ensemble, among failures of all kinds.
        self._room = threading.Semaphore(max_running + int(context.parameters["max_waiting"]))
        self._places = Places(max_running)
        self._running: set[Job] = set()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        end_with_parent()

    def execute(self, requests: list[Any]) -> list[None] | None:
        """Take each request up; its answer, or its error, is sent when it is done."""
        for request in requests:
            self._take_up(request)
        # Triton insists on the one or the other.
        return None if self._is_streamed else [None] * len(requests)

    def finalize(self) -> None:
        """End the processes that demux."""
        self._extractor.workers.close()

    def _take_up(self, request: Any) -> None:
        started = time.perf_counter()
        kept = KeptRequest(request)
        if isinstance(error := attempt(self._begin, request, kept, started), Exception):
            self._finish(kept, started, error)

    def _begin(self, request: Any, kept: KeptRequest, started: float) -> None:
        if not self._room.acquire(blocking=False):
            raise UnavailableError("the server has too many requests; try again")
        with ExitStack() as undone:
            undone.callback(self._room.release)
            job = self._read(request, kept, started)
            undone.callback(job.source.close)
            undone.callback(job.cancellation.close)
            threading.Thread(target=self._work, args=(job,), daemon=True).start()
            undone.pop_all()  # `_work` sees to all of it

    def _read(self, request: Any, kept: KeptRequest, started: float) -> Job:
        """Read all of a request; Triton takes its memory back when `execute` returns."""
        called: Any = read_parameters(kept).get(HEAD)
        # Whoever calls the ensemble named the family, and says nothing of heads.
        if called in get_args(Head):
            check_head(self._manifest.family, self._manifest.head, called=called)
        tensors = read_tensors(request)
        # Before the video: what is wrong with options and questions is found before it is opened.
        options, asked = self._head.read(tensors)
        cancellation = CancellationToken()
        source = open_source(
            tensors.get("VIDEO"),
            read_optional_text(tensors, "VIDEO_URI", max_bytes=_MAX_URI_BYTES),
            allowed_roots=self._allowed_roots,
            limits=self._limits,
        )

        def is_cancelled() -> bool:
            if not kept.is_cancelled():
                return False
            cancellation.close()  # so that all models that work for it stop as well
            return True

        return Job(
            request=kept,
            started=started,
            source=source,
            options=options,
            asked=asked,
            deadline=read_deadline(kept, self._limits, is_cancelled=is_cancelled),
            cancellation=cancellation,
        )

    def _work(self, job: Job) -> None:
        self._running.add(job)
        result = attempt(self._answer, job)
        self._running.discard(job)
        # Before the answer: who has it may ask again at once.
        self._room.release()
        self._finish(job.request, job.started, result)

    def _answer(self, job: Job) -> Answer:
        models = StageModels(
            inputs=self._inputs, deadline=job.deadline, cancellation=job.cancellation
        )
        try:
            with self._places.held(job.deadline):
                video = self._extractor.extract(
                    job.source,
                    job.options,
                    asked=job.asked,
                    decode=models.decode,
                    encode=models.encode,
                    deadline=job.deadline,
                    on_frames=progress_sender(job.request.request_id),
                )
                on_text = partial(self._tell, job.request) if self._is_streamed else None
                return self._head.answer(video, job.asked, job.options, models, on_text)
        finally:
            job.cancellation.close()
            job.source.close()

    def _tell(self, kept: KeptRequest, number: int, text: str) -> None:
        # Of a caller that is gone `_watch` hears.
        attempt(kept.send_part, {"PART": json_tensor({"query": number, "text": text})})

    def _finish(self, kept: KeptRequest, started: float, result: Answer | Exception) -> None:
        """Count and log a request, and answer it; a lost count loses no answer."""
        seconds = time.perf_counter() - started
        attempt(self._metrics.observe, result)
        attempt(
            lambda: pb_utils.Logger.log_info(
                log_line(kept.request_id, result, shapes=kept.shapes, seconds=seconds)
            )
        )
        kept.send(answer(kept, result if isinstance(result, Exception) else result.tensors()))

    def _watch(self) -> None:
        """Ask for each request whether it was cancelled: nobody else does while a model works."""
        while True:
            time.sleep(POLL_SECONDS)
            for job in list(self._running):
                attempt(job.deadline.check)

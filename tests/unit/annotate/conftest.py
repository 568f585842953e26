"""Two short videos of MovingDigits, and an annotator of them in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from groundserve.annotate.annotator import AnnotateSource, read_annotations
from groundserve.annotate.items import ItemParser
from groundserve.annotate.prompts import read_prompts
from groundserve.annotate.settings import STAGES, Rules, Settings
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from tests.support.digits_llm import DigitsLlm, write_manifest
from tests.unit.evaluation.qa.chat_server import ChatServer
from train.digits.dataset import write_grounding_set


class DigitSet:
    """Records, their folder and manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        path = write_grounding_set(root, split="test", seed=9, num_videos=2, num_frames=18)
        self.records: list[dict[str, Any]] = json.loads(path.read_text())
        self.manifest = write_manifest(self.records, root / "manifest.jsonl")
        self.llm = DigitsLlm(self.records, root)
        """An endpoint that is right."""

    def query(self, record: dict[str, Any]) -> str:
        question = record["question"].removeprefix("<image>\n")
        fields = {"video": "v.mp4", "question": question, "answer": record["answer"]}
        return ItemParser("/", AnswerOptions()).parse(fields, 0).query


@pytest.fixture(scope="session")
def digit_set(tmp_path_factory) -> DigitSet:
    return DigitSet(tmp_path_factory.mktemp("annotated"))


def settings(*urls: str, choice: str = "all", **changes: Any) -> Settings:
    common: dict[str, Any] = {"model": "digits", "max_tokens": 1, "timeout_seconds": 20}
    several = tuple(EndpointOptions(url=url, max_attempts=3, **common) for url in urls)
    rules = Rules(choice=choice, **changes.pop("rules", {}))
    endpoints = dict.fromkeys(STAGES, several)
    return Settings(rules=rules, prompts=read_prompts(), endpoints=endpoints, **changes)


class Bench:
    """An endpoint that knows the set, and an annotator that asks it."""

    def __init__(self, server: ChatServer, annotator: Any, digit_set: DigitSet) -> None:
        self.server, self.annotator, self.set = server, annotator, digit_set

    def annotate(self, record: dict[str, Any]) -> Any:
        path = self.set.root / record["video"]
        (answer,) = self.annotator.ask(str(path), [self.set.query(record)]).answers
        (note,) = read_annotations(answer.text)
        return note


@pytest.fixture
def bench(digit_set, tmp_path) -> Any:
    """Return what opens a `Bench`; its run directory is `place` below `tmp_path`."""
    with ExitStack() as held:

        def opened(
            script: Callable[..., Any] | None = None, place: str = "run", **changes: Any
        ) -> Bench:
            server = held.enter_context(ChatServer(script or digit_set.llm))
            made = settings(*changes.pop("gone", ()), server.url, **changes)
            source = AnnotateSource(settings=made, place=str(tmp_path / place))
            annotator = source.open(num_threads=1, limits=Limits())
            return Bench(server, held.enter_context(annotator), digit_set)

        yield opened

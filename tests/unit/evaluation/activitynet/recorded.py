"""The reference's evaluation of the fixtures, and what Java said of its captions.

python -m tests.unit.evaluation.activitynet.recorded     # writes the latter anew; needs Java
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from groundserve.evaluation.activitynet.annotations import read_annotations
from groundserve.evaluation.activitynet.answer_log import read_answers
from groundserve.evaluation.activitynet.captions import make_caption_report
from groundserve.evaluation.activitynet.language import JavaLanguage, Pair
from tests.support.reference import REPOSITORY

REFERENCE = REPOSITORY / "tests" / "fixtures" / "vtimellm"
ANNOTATION, LOG = REFERENCE / "eval" / "annotation.json", REFERENCE / "eval" / "log.jsonl"
SAID = Path(__file__).with_name("said_by_java.json")

SEEDS = (0, 1)
"""Of the noise, which METEOR was asked about too."""


def cases() -> dict[str, Any]:
    """Return what the reference recorded."""
    value: dict[str, Any] = json.loads((REFERENCE / "cases.json").read_text("utf-8"))
    return value


class RecordedLanguage:
    """Says what Java said of the same captions."""

    def __init__(self) -> None:
        said = json.loads(SAID.read_text("utf-8"))
        self.words: dict[str, str] = said["words"]
        self.scores = {
            tuple(map(tuple, one["pairs"])): (one["all"], one["each"]) for one in said["meteor"]
        }

    def tokenize(self, captions: Collection[str]) -> Mapping[str, str]:
        return {caption: self.words[caption] for caption in captions}

    def meteor(self, pairs: Sequence[Pair]) -> tuple[float, list[float]]:
        together, each = self.scores[tuple(pairs)]
        return together, list(each)


class _Recorder(JavaLanguage):
    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, Any] = {"words": {}, "meteor": []}

    def tokenize(self, captions: Collection[str]) -> Mapping[str, str]:
        words = super().tokenize(captions)
        self.said["words"] |= sorted(words.items())
        return words

    def meteor(self, pairs: Sequence[Pair]) -> tuple[float, list[float]]:
        together, each = super().meteor(pairs)
        one = {"pairs": list(pairs), "all": together, "each": each}
        if one not in self.said["meteor"]:  # two thresholds may pair the same
            self.said["meteor"].append(one)
        return together, each


if __name__ == "__main__":
    annotations = read_annotations(ANNOTATION)
    captions = read_answers(LOG, annotations, task="captioning").captions
    with _Recorder() as language:
        for seed in SEEDS:
            make_caption_report(captions, annotations, language, seed=seed)
    SAID.write_text(json.dumps(language.said, indent=1) + "\n", "utf-8")

"""Does a Video-LLM answer better from selected frames? MovingDigits, and a reader behind HTTP.

    python -m benchmarks.qa_digits --work WORK --out benchmarks/results/qa_digits_DATE.json

Questions of a fresh test set whose answer is one digit that they do not name are written as
CG-Bench's records: ten options, and the seconds that answer them as clues. `groundserve eval qa`
has them answered by an endpoint on loopback that speaks the chat format and reads nothing but the
prompt and the JPEGs it is sent: a digit classifier, which says the digit that they show most. One
request in twenty meets a 429, a 500 or a stream that is cut.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._report import write_report
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.unit.evaluation.qa.chat_server import Act, Request, chat_server, images_of, text_of
from train.digits.dataset import VERSION, write_grounding_set
from train.digits.downstream import DigitClassifier, FrameFeatures, answer, named_digits
from train.digits.questions import NAMES

SEED = 2026
NUM_FRAMES = 48
TOP_K = 8
ARMS = ("none", "uniform", "selected", "oracle")
_ANSWERED_TYPES = ("order", "motion")
"""Types whose question does not name the digit that answers it."""
_FAULTY_SHARE = 0.05
_FAULTS = (
    Act("slow down", status=429, headers={"Retry-After": "0.2"}),
    Act("out of memory", status=500),
    Act("A", cut="stream"),
    Act("A", cut="chunk"),
)


def make_records(path: Path) -> list[dict[str, Any]]:
    """Return CG-Bench's records of the questions that a digit answers.

    Args:
        path: `records.json` of a MovingDigits set.
    """
    records = []
    for record in json.loads(path.read_text("utf-8")):
        question = record["question"].removeprefix("<image>\n")
        digits = named_digits(record["answer"])
        if (
            record["type"] not in _ANSWERED_TYPES
            or not record["frame_num"]
            or len(digits) != 1
            or digits[0] in named_digits(question)
        ):
            continue
        records.append(
            {
                "qid": record["id"],
                "video_uid": record["video"],
                "question": question,
                "choices": list(NAMES),
                "right_answer": _letter(digits[0]),
                "clue_intervals": clue_intervals(record["frame_num"]),
            }
        )
    return records


def clue_intervals(seconds: list[int]) -> list[list[float]]:
    """Return stretches of whole seconds; each ends before the next second's frame is shown."""
    starts = [seconds[0], *(b for a, b in pairwise(seconds) if b != a + 1)]
    ends = [*(a for a, b in pairwise(seconds) if b != a + 1), seconds[-1]]
    return [[start, end + 0.9] for start, end in zip(starts, ends, strict=True)]


class DigitReader:
    """Answers a chat request from its pictures, as a Video-LLM would."""

    def __init__(self, *, seed: int) -> None:
        self._features = FrameFeatures(SHIPPED_CHECKPOINT)
        self._classifier = DigitClassifier(self._features, seed=seed)
        self._random = random.Random(seed)
        self._lock = threading.Lock()  # of the numbers drawn, and of the features' memory

    def __call__(self, request: Request) -> Act:
        """Answer; or misbehave, as drawn."""
        with self._lock:
            if self._random.random() < _FAULTY_SHARE:
                return self._random.choice(_FAULTS)
            return Act(self.read(request), usage=(len(images_of(request)), 1))

    def read(self, request: Request) -> str:
        """Return the letter of the digit that is shown most, and that the question does not name.

        Without a picture it is the first such digit's: a guess.
        """
        # Below the subtitles and the instruction; above ten options and the last line.
        question = text_of(request).split("\n")[-12]
        pictures = [self._picture(url) for url in images_of(request)]
        shown = self._classifier.shown(np.stack(pictures)) if pictures else np.zeros((1, 10))
        return _letter(answer(shown, question=question))

    def _picture(self, url: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        data = base64.b64decode(url.partition(",")[2])
        side = self._features.image_size
        picture = Image.open(io.BytesIO(data)).resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(picture)


def run(work: Path, *, num_videos: int, seed: int) -> dict[str, Any]:
    """Draw a set, have it answered, and return what `--json` says.

    Args:
        work: New or empty folder.
        num_videos: Of the set.
        seed: Of the set, the classifier and the intervals.
    """
    path = write_grounding_set(
        work / "set", split="test", seed=seed, num_videos=num_videos, num_frames=NUM_FRAMES
    )
    questions = work / "questions.json"
    questions.write_text(json.dumps(make_records(path)), "utf-8")
    with chat_server(DigitReader(seed=seed)) as server:
        command = [
            *(sys.executable, "-m", "groundserve", "eval", "qa", str(questions)),
            *("--layout", "cgbench", "--media-root", str(path.parent), "--out", str(work / "run")),
            *("--endpoint", server.url, "--model", "digit-reader", "--set-name", "MovingDigits"),
            *(it for arm in ARMS for it in ("--arm", arm)),
            *("--top-k", str(TOP_K), "--checkpoint", "digits", "--asked", "question"),
            *("--seed", str(seed), "--json"),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        answered: dict[str, Any] = json.loads(done.stdout)
        answered["num_requests"] = len(server.requests)
    return answered


def _letter(digit: int) -> str:
    return chr(ord("A") + digit)


def main(arguments: list[str] | None = None) -> None:
    """Run, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="new or empty folder")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--num-videos", type=int, default=300)
    args = parser.parse_args(arguments)
    answered = run(args.work, num_videos=args.num_videos, seed=SEED)
    write_report(
        args.out,
        "does a reader behind a chat endpoint answer better from selected than from uniform frames",
        answered,
        inputs=[
            {
                "kind": "moving_digits",
                "version": VERSION,
                "split": "test",
                "seed": SEED,
                "num_videos": args.num_videos,
                "num_frames": NUM_FRAMES,
            }
        ],
    )


if __name__ == "__main__":
    main()

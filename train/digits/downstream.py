"""Does selecting frames help what comes after? A digit classifier answers from K frames only.

It mirrors the paper's headline, a Video-LLM that answers better from selected than from uniform
frames: here the answerer sees K frames, is told which digit the question itself names, and says
which other digit they show most. It reads the tower's features through a linear probe of its own,
never the grounding model.

Shape letters: m frames, P patches, D_v vision width, C classes (ten digits, and none).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from groundserve.evaluation.bootstrap import bootstrap_difference, bootstrap_mean
from groundserve.evaluation.frames import uniform_positions
from groundserve.evaluation.report import ScoredQuestion
from groundserve.evaluation.scored_records import OPTIONS
from groundserve.families import get_frames_family, open_checkpoint
from groundserve.families.default_video import short_plan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
from train.digits.questions import NAMES
from train.digits.render import draw_scenes, patch_classes
from train.digits.world import NUM_DIGITS, make_scene

_NUM_SCENES = 400
# Next to classes whose weights sum to 1 each, however many pictures there are.
_RIDGE = 1e-3
_DECODE_SECONDS = 60.0
_ANSWERED_TYPES = ("order", "motion")
"""Types whose question does not name the digit that answers it."""


class DigitClassifier:
    """Tells which digits a frame shows, patch by patch, by ridge regression on frozen features.

    Those are the checkpoint's features of single frames, as fine as its family has them. The
    family must encode frame by frame, into a square of patches.
    """

    def __init__(self, checkpoint: str | Path, *, seed: int) -> None:
        """Fit on pictures of the training split's handwriting."""
        family, opened = open_checkpoint(checkpoint)
        self._family = get_frames_family(family.name)
        _, pad_token_id = opened.load_tokenizer()
        self._spec = opened.model_spec(pad_token_id=pad_token_id)
        self._vision = opened.load_vision()
        inputs = VisionInputs.of(self._family, self._spec)
        (stream,) = inputs.streams
        _, self.image_size, _, _ = stream.shape(1)
        # As of a picture: the more frames, the fewer tokens each may have.
        picture = short_plan(self._family, self._spec, 1)
        self._inputs = [torch.from_numpy(value) for value in inputs.of_plan(picture)]
        self._weights = self._fit(np.random.default_rng(seed))

    def shown(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return (m, 10): the share of each frame's patches that show each digit."""
        told = (self._features(frames) @ self._weights).argmax(-1)  # (m, P)
        return np.stack([(told == digit).mean(axis=1) for digit in range(NUM_DIGITS)], axis=1)

    def shown_in_video(self, workers: MediaWorkers, path: Path) -> NDArray[np.float64]:
        """Tell it of the frames of a video that its questions are scored on."""
        with (
            VideoSource.from_path(path, limits=Limits()) as source,
            workers.open(source, deadline=Deadline.after(_DECODE_SECONDS)) as video,
        ):
            indices = self._family.plan(video.index, OPTIONS, self._spec).frame_indices
            return self.shown(video.decode(video.cut(indices), image_size=self.image_size))

    def _fit(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return (D_v + 1, 11), against one-hot classes."""
        scenes = [make_scene(rng, split="train") for _ in range(_NUM_SCENES)]
        found = self._features(draw_scenes(scenes, image_size=self.image_size))
        side = math.isqrt(found.shape[1])
        inputs = found.reshape(-1, found.shape[-1])  # (n * P, D_v + 1)
        classes = np.concatenate([patch_classes(s, 0, side=side).ravel() for s in scenes])
        # Most patches show nothing: every class weighs the same.
        weights = 1 / np.bincount(classes, minlength=NUM_DIGITS + 1)[classes]
        weighted = inputs * weights[:, None]
        gram = weighted.T @ inputs + _RIDGE * np.eye(inputs.shape[1])
        return np.linalg.solve(gram, weighted.T @ np.eye(NUM_DIGITS + 1)[classes])

    def _features(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Encode uint8 (m, S, S, 3) to (m, P, D_v + 1): features and a constant."""
        inputs = [value.expand(len(frames), *value.shape[1:]) for value in self._inputs]
        with torch.no_grad():
            features = self._vision(torch.from_numpy(frames), *inputs).double().numpy()
        return np.concatenate([features, np.ones((*features.shape[:2], 1))], axis=-1)


def answer(shown: NDArray[np.float64], *, question: str) -> int:
    """Return the digit that frames, (m, 10), show most, other than one the question names."""
    votes = shown.mean(axis=0)
    votes[named_digits(question)] = -1  # below every share
    return int(votes.argmax())


def named_digits(text: str) -> list[int]:
    """Return the digits that a text names in words, each once, increasing."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    return [digit for digit, name in enumerate(NAMES) if name in words]


def downstream_report(
    records_path: Path,
    *,
    checkpoint: str | Path,
    scored: Sequence[ScoredQuestion],
    num_selected: int,
    seed: int,
) -> dict[str, Any] | None:
    """Answer questions from the K best-scored frames, from K uniform ones, and from all.

    The records are of a MovingDigits set, beside its videos; the classifier reads the checkpoint's
    tower. None: the set has no question whose answer is one digit that it does not name.

    Raises:
        GroundserveError: The checkpoint cannot be opened, or a video cannot be read.
    """
    digits = _answers(records_path, scored)
    if not digits:
        return None
    classifier = DigitClassifier(checkpoint, seed=seed)
    right: dict[str, list[bool]] = {"selected": [], "uniform": [], "all_frames": []}
    shown: dict[str, NDArray[np.float64]] = {}
    with MediaWorkers(limits=Limits()) as workers:
        for question, digit in digits:
            # Questions of a video share its frames, which are decoded and told once.
            if question.video not in shown:
                path = records_path.parent / question.video
                shown[question.video] = classifier.shown_in_video(workers, path)
            everything = shown[question.video]
            choices = {
                # As serving selects: of equal logits the earlier.
                "selected": np.argsort(-question.frame_logits, kind="stable")[:num_selected],
                "uniform": uniform_positions(len(everything), num_selected),
                "all_frames": np.arange(len(everything)),
            }
            for name, seen in choices.items():
                right[name].append(answer(everything[seen], question=question.question) == digit)
    videos = [question.video for question, _ in digits]
    values = {name: np.array(answers, np.float64) for name, answers in right.items()}
    estimates = {name: bootstrap_mean(value, videos, seed=seed) for name, value in values.items()}
    gain = bootstrap_difference(values["selected"], values["uniform"], videos, seed=seed)
    return {
        "num_questions": len(digits),
        "num_selected": num_selected,
        "accuracy": {name: asdict(estimate) for name, estimate in estimates.items()},
        "gain_over_uniform": asdict(gain),
    }


def _answers(
    records_path: Path, scored: Sequence[ScoredQuestion]
) -> list[tuple[ScoredQuestion, int]]:
    """Return the questions whose answer is one digit that they do not name, with it."""
    answers = {
        (record["video"], record["question"].removeprefix("<image>\n")): record["answer"]
        for record in json.loads(records_path.read_text("utf-8"))
    }
    found = []
    for question in scored:
        if question.type not in _ANSWERED_TYPES or not question.is_present:
            continue
        digits = named_digits(answers[question.video, question.question])
        # An answer of two digits, or one that the question gives away, shows nothing.
        if len(digits) == 1 and digits[0] not in named_digits(question.question):
            found.append((question, digits[0]))
    return found

"""What small checkpoints that answer in text tell of drawn videos: moments, and captions.

    python -m benchmarks.digits_text --checkpoint DIR --checkpoint DIR --out JSON

Checkpoints are runs of one recipe with several seeds, whose spread is told. The captions' floor is
the true times with sentences of other videos.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks._command import positive, run
from benchmarks._report import write_report
from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answers import Events, event_of
from groundserve.evaluation.activitynet.captions import make_caption_report
from groundserve.evaluation.activitynet.language import JavaLanguage
from groundserve.options import AnswerOptions
from groundserve.scoring.opener import open_answerer
from train.digits.moments import MomentVideo, event_window, event_words, write_moment_videos

_TOKENS = 1024  # the longest captions have some 400


def moments(checkpoint: Path, *, seed: int, num_videos: int) -> dict[str, Any]:
    """Return what `eval moments` prints."""
    given = ("--checkpoint", checkpoint, "--seed", seed, "--num-videos", num_videos)
    command = [sys.executable, "-m", "groundserve", "eval", "moments", "--json", *map(str, given)]
    told: dict[str, Any] = json.loads(subprocess.check_output(command))
    return told


def captions(checkpoint: Path, videos: list[MomentVideo], *, seed: int) -> dict[str, Any]:
    """Return SODA_c of the model's captions, and of the floor."""
    true = {video.path.stem: _annotation(video) for video in videos}
    told: dict[str, Events] = {}
    with open_answerer(str(checkpoint), None, None) as answerer:
        options = AnswerOptions(task="captions", max_new_tokens=_TOKENS)
        for video in videos:
            (answer,) = answerer.ask(video.path, [""], options).answers
            told[video.path.stem] = (
                tuple(
                    event_of((one.start_seconds, one.end_seconds), video.duration_seconds, one.text)
                    for one in answer.moments
                )
                or None
            )
    rng = np.random.default_rng(seed)
    sentences = [sentence for one in true.values() for sentence in one.sentences]
    floor: dict[str, Events] = {
        name: tuple(
            event_of(window, one.duration_seconds, str(rng.choice(sentences)))
            for window in one.windows
        )
        for name, one in true.items()
    }
    with JavaLanguage() as language:
        reports = [make_caption_report(one, true, language, seed=seed) for one in (told, floor)]
    names = ("model", "true_times_random_sentences")
    return {
        "num_videos": len(videos),
        "num_unread": reports[0].num_unread,
        "soda_c": {
            name: asdict(report.figures["soda_c"])
            for name, report in zip(names, reports, strict=True)
        },
    }


def _annotation(video: MomentVideo) -> Annotation:
    events = video.world.events
    return Annotation(
        duration_seconds=video.duration_seconds,
        windows=tuple(event_window(event) for event in events),
        sentences=tuple(f"{event_words(event)}.".capitalize() for event in events),
    )


def main() -> None:
    """Measure every checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, action="append", required=True)
    parser.add_argument("--seed", type=int, default=2026, help="of the videos")
    parser.add_argument("--num-videos", type=positive, default=300)
    parser.add_argument("--num-captioned", type=positive, default=60)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    measured = []
    with TemporaryDirectory(prefix="groundserve-digits-text-") as scratch:
        videos = write_moment_videos(
            Path(scratch), split="test", seed=args.seed, num_videos=args.num_captioned
        )
        for one in args.checkpoint:
            told = moments(one, seed=args.seed, num_videos=args.num_videos)
            training = one / "training"
            measured.append(
                {
                    "recipe": json.loads((training / "config.json").read_text("utf-8")),
                    "training": [
                        json.loads(line)
                        for line in (training / "timing.jsonl").read_text("utf-8").splitlines()
                    ],
                    "moments": told,
                    "captions": captions(one, videos, seed=args.seed),
                }
            )
    every = [one["moments"]["all"]["R1@0.5"] for one in measured]
    every_soda = [one["captions"]["soda_c"]["model"]["value"] for one in measured]
    over_seeds = {
        name: {"mean": float(np.mean(values)), "min": min(values), "max": max(values)}
        for name, values in (("R1@0.5", every), ("soda_c", every_soda))
    }
    results = {"checkpoints": measured, "over_checkpoints": over_seeds}
    write_report(args.out, "what do small checkpoints tell of drawn videos", results)


if __name__ == "__main__":
    run(main)

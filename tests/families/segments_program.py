"""Build a family of two streams and read features, on the tree that this Python finds first.

python segments_program.py FOLDER CHECKPOINT ADAPTER,... VIDEO ...: FOLDER gets the engine directory
`cpu`, and of each video `STEM.npz` with its features and `said.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from engine_build import build
from groundserve import Pipeline
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from groundserve.scoring.gate import check_engines
from python_backend.meter import Counts


def main(folder: Path, checkpoint: Path, adapters: list[str], videos: list[Path]) -> None:
    given = {"family": "segments", "parts": {"adapter": [Path(one) for one in adapters]}}
    build(checkpoint, folder / "cpu", profile="cpu", **given)
    report = check_engines(folder / "cpu", checkpoint, **given)
    said = {"checks": [str(check) for check in report.checks], "videos": {}, "answers": {}}
    openers = {
        "cpu": lambda meter: Pipeline.open(folder / "cpu", meter=meter),
        "torch": lambda meter: Pipeline.from_checkpoint(checkpoint, **given, meter=meter),
    }
    for video in videos:
        features, work = {}, {}
        for name, open_pipeline in openers.items():
            meter = Counts()
            with open_pipeline(meter) as pipeline:
                extracted = pipeline.features(video, AnswerOptions(), deadline=Deadline.after(60))
                features[name] = np.asarray(extracted.features)
                converted = pipeline.decoders.work_done()["frames_converted"]
            counts = ("frames_decoded", "vision_frames", "vision_passes")
            work[name] = {count: meter[count] for count in counts} | {"made": converted}
        with openers["cpu"](Counts()) as pipeline:
            asked = pipeline.ask(video, "What?", AnswerOptions(task="chat", max_new_tokens=4))
        said["answers"][video.stem] = asked.answers[0].token_ids.tolist()
        np.savez(folder / f"{video.stem}.npz", **features)
        said["videos"][video.stem] = work
    (folder / "said.json").write_text(json.dumps(said), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","), [*map(Path, sys.argv[4:])])

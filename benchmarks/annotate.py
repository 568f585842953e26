"""Are annotations right that a model made which is wrong at a known rate; what is learnt of them?

    python -m benchmarks.annotate --out JSON --work FOLDER [--noise 0.1] [--steps 60]
        [--parts agreement,training]

MovingDigits, annotated by `groundserve annotate` from an endpoint that is given the truth: of its
answers about clips and frames a share are those to another question of the same video.

Agreement: the usual questions; the second grounder is the checkpoint that comes with groundserve.
Training: questions it has never been asked, as docs/train_your_own.md has them. Its second grounder
was trained on the truth of other videos; three checkpoints begin where that one did, and learn from
the truth, from what was kept, and from all that was annotated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._command import list_of, positive, run
from benchmarks._report import write_report
from tests.support.digits_llm import DigitsLlm, Record, write_manifest
from tests.unit.evaluation.qa.chat_server import ChatServer
from train.digits.dataset import write_grounding_set

_OWN = (("When is the picture empty?", 0), ("When are two digits shown at once?", 2))
_NUM_FRAMES = 24
_RIGHT_IOU = 0.5
"""From which on an annotation counts as right."""
_TRAIN = """
stage = "grounding"
init = "{init}"
out = "{out}"
parallelism = "none"
precision = "fp32"
gradient_checkpointing = false
max_steps = {steps}
save_every_steps = 100000

[data]
records = "{records}"
media_root = "{root}"
num_workers = 2
vision_token_num = 432
vision_min_num = 3
questions_per_video = 8

[optimizer]
learning_rate = 5e-4
out_proj_learning_rate = "none"
max_grad_norm = 1.0
"""
_DIGITS = Path(__file__).parent.parent / "groundserve" / "checkpoints" / "digits"


def make_set(folder: Path, *, split: Any, seed: int, num_videos: int) -> list[Record]:
    """Return the usual questions of a set that is written where it is missing."""
    path = folder / "records.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_grounding_set(
            folder, split=split, seed=seed, num_videos=num_videos, num_frames=_NUM_FRAMES
        )
    records: list[Record] = json.loads(path.read_text())
    return records


def own_records(records: list[Record]) -> list[Record]:
    """Return the questions of docs/train_your_own.md about the same videos."""
    seconds = {record["video"]: record["frame_targets"]["frames"] for record in records}
    found = []
    for video, shown in seconds.items():
        digits = [sum(thing < 10 for thing in second) for second in shown]
        for place, (question, number) in enumerate(_OWN):
            frames = [second for second, count in enumerate(digits) if count == number]
            found.append(
                {
                    "id": f"{Path(video).stem}-{place}",
                    "video": video,
                    "question": question,
                    "answer": "In some seconds." if frames else "Never.",
                    "frame_num": frames,
                    "motion": "No",
                    "existence": "No" if frames else "Yes",
                    "type": "semantic",
                }
            )
    return found


def annotate(
    records: list[Record], root: Path, out: Path, *, noise: float, checkpoint: Path
) -> dict[str, Any]:
    """Run the command, and return its summary."""
    manifest = write_manifest(records, root / f"{out.name}.jsonl")
    with ChatServer(DigitsLlm(records, root, noise=noise)) as server:
        words = ["annotate", manifest, "--out", out, "--endpoint", server.url, "--model", "digits"]
        words += ["--choice", "all", "--checkpoint", checkpoint, "--json", "--resume"]
        summary: dict[str, Any] = groundserve(*words)
    return summary


def groundserve(*words: object) -> Any:
    """Run a command, and return the JSON on its last line."""
    command = [sys.executable, "-m", "groundserve", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{ended.stdout}\n{ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


def measure(records: list[Record], out: Path) -> dict[str, Any]:
    """Compare what a run has with the truth."""
    truth = {record["id"]: set(record["frame_num"]) for record in records}
    everything = json.loads((out / "annotations_all.json").read_text())
    kept = {one["id"] for one in json.loads((out / "annotations.json").read_text())}
    found = {one["id"]: iou(set(one["frame_num"]), truth[one["id"]]) for one in everything}
    keeps = [value for name, value in found.items() if name in kept]
    drops = [value for name, value in found.items() if name not in kept]
    return {
        "questions": len(truth),
        "annotated": len(found),
        "kept": len(keeps),
        "iou_unverified": float(np.mean([*found.values()])),
        "iou_kept": float(np.mean(keeps)),
        "iou_with_missing_as_0": sum(found.values()) / len(truth),
        "kept_precision": float(np.mean([value >= _RIGHT_IOU for value in keeps])),
        "dropped_precision": float(np.mean([value >= _RIGHT_IOU for value in drops])),
    }


def iou(first: set[int], second: set[int]) -> float:
    """Return the intersection over union of frames; 1 of none and none."""
    return len(first & second) / len(first | second) if first | second else 1.0


def train(records: Path, root: Path, out: Path, *, steps: int) -> Path:
    """Train from the shipped checkpoint, and return the one that comes of it."""
    if not (out / "final").is_dir():
        out.parent.mkdir(parents=True, exist_ok=True)
        config = out.with_suffix(".toml")
        config.write_text(
            _TRAIN.format(init=_DIGITS, out=out, records=records, root=root, steps=steps)
        )
        groundserve("train", "grounding", "--config", config, "--json")
    return out / "final"


def average_precision(checkpoint: Path, records: Path, root: Path) -> float:
    """Return the frame AP of a checkpoint on records."""
    words = ["--records", records, "--media-root", root, "--checkpoint", checkpoint, "--json"]
    found = groundserve("eval", *words)["report"]["overall"]["figures"]
    return float(found["frame_ap"]["value"])


def measure_training(work: Path, *, noise: float, steps: int, num_videos: int) -> dict[str, Any]:
    """Train four times and evaluate."""
    pilot, large, test = (work / name for name in ("pilot", "large", "test"))
    sets = {
        pilot: own_records(make_set(pilot, split="train", seed=11, num_videos=20)),
        large: own_records(make_set(large, split="train", seed=31, num_videos=num_videos)),
        test: own_records(make_set(test, split="validation", seed=12, num_videos=20)),
    }
    for folder, records in sets.items():
        (folder / "own.json").write_text(json.dumps(records))
    grounder = train(pilot / "own.json", pilot, work / "runs" / "pilot", steps=steps)
    out = work / "own-run"
    summary = annotate(sets[large], large, out, noise=noise, checkpoint=grounder)
    arms = {
        "truth": large / "own.json",
        "verified": out / "annotations.json",
        "unverified": out / "annotations_all.json",
    }
    found = {"start": average_precision(_DIGITS, test / "own.json", test)}
    for name, path in arms.items():
        trained = train(path, large, work / "runs" / name, steps=steps)
        found[name] = average_precision(trained, test / "own.json", test)
    found["pilot"] = average_precision(grounder, test / "own.json", test)
    return {
        "frame_ap": found,
        "verified_of_truth": found["verified"] / found["truth"],
        "annotations": measure(sets[large], out),
        "calls": summary["calls"],
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--num-videos", type=positive, default=20)
    parser.add_argument("--steps", type=positive, default=60)
    parser.add_argument("--parts", type=list_of(str), default=["agreement", "training"])
    given = parser.parse_args()
    work, noise, num_videos = given.work.absolute(), given.noise, given.num_videos
    results: dict[str, Any] = {"noise": noise}
    if "agreement" in given.parts:
        usual, out = work / "usual", work / "usual-run"
        records = make_set(usual, split="validation", seed=21, num_videos=num_videos)
        summary = annotate(records, usual, out, noise=noise, checkpoint=_DIGITS)
        figures = {name: it for name, it in summary.items() if not isinstance(it, str)}
        results["agreement"] = {**measure(records, out), "summary": figures}
    if "training" in given.parts:
        results["training"] = measure_training(
            work, noise=noise, steps=given.steps, num_videos=num_videos
        )
    write_report(given.out, "are annotations of a noisy model right, and learnt from", results)


if __name__ == "__main__":
    run(main)

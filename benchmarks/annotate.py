"""Are annotations right that a model made which is wrong at a known rate; what is learnt of them?

    python -m benchmarks.annotate --out JSON --work FOLDER [--noise 0.1] [--steps 60] [--seeds 3]
        [--parts agreement,training]

MovingDigits, annotated by `groundserve annotate` from an endpoint that is given the truth: of its
answers about clips and frames a share are those to another question of the same video.

Agreement: the usual questions; the second grounder is the checkpoint that comes with groundserve.
Training: questions it has never been asked, as docs/train_your_own.md has them. Its second grounder
was trained on the truth of other videos; with each seed, checkpoints begin where that one did, and
learn from the truth, from what was kept, and from all that was annotated.
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
_RIGHT_IOU = 0.5
"""From which on an annotation counts as right."""
_ROOT = Path(__file__).parent.parent
_DIGITS = _ROOT / "groundserve" / "checkpoints" / "digits"
_EXAMPLE = _ROOT / "examples" / "your_own.toml"


def make_set(folder: Path, *, split: Any, seed: int, num_videos: int) -> list[Record]:
    """Return the usual questions of a set that is written where it is missing."""
    path = folder / "records.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_grounding_set(folder, split=split, seed=seed, num_videos=num_videos, num_frames=24)
    records: list[Record] = json.loads(path.read_text())
    return records


def make_own_set(folder: Path, **of_set: Any) -> list[Record]:
    """Return the questions of docs/train_your_own.md about a set; they are in own.json, too."""
    records = []
    shown = {one["video"]: one["frame_targets"]["frames"] for one in make_set(folder, **of_set)}
    for video, seconds in shown.items():
        digits = [sum(thing < 10 for thing in second) for second in seconds]
        for place, (question, number) in enumerate(_OWN):
            frames = [second for second, count in enumerate(digits) if count == number]
            record = {"id": f"{Path(video).stem}-{place}", "video": video, "question": question}
            record |= {"answer": "In some seconds." if frames else "Never.", "frame_num": frames}
            existence = "No" if frames else "Yes"
            records.append({**record, "motion": "No", "existence": existence, "type": "semantic"})
    (folder / "own.json").write_text(json.dumps(records))
    return records


def groundserve(*words: object) -> Any:
    """Run a command, and return the JSON on its last line."""
    command = [sys.executable, "-m", "groundserve", *map(str, words), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{ended.stdout}\n{ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


def annotate(
    records: list[Record], root: Path, out: Path, *, noise: float, checkpoint: Path
) -> dict[str, Any]:
    """Run the command, and compare what it made with the truth."""
    manifest = write_manifest(records, root / f"{out.name}.jsonl")
    with ChatServer(DigitsLlm(records, root, noise=noise)) as server:
        words = ["annotate", manifest, "--out", out, "--endpoint", server.url, "--model", "digits"]
        words += ["--choice", "all", "--checkpoint", checkpoint, "--resume"]
        summary = groundserve(*words)
    truth = {record["id"]: set(record["frame_num"]) for record in records}
    everything, kept = (
        {one["id"]: one for one in json.loads((out / name).read_text())}
        for name in ("annotations_all.json", "annotations.json")
    )
    found = {name: iou(set(one["frame_num"]), truth[name]) for name, one in everything.items()}
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
        "summary": {name: it for name, it in summary.items() if not isinstance(it, str)},
    }


def iou(first: set[int], second: set[int]) -> float:
    """Return the intersection over union of frames; 1 of none and none."""
    return len(first & second) / len(first | second) if first | second else 1.0


def train(records: Path, root: Path, out: Path, *, steps: int, seed: int) -> Path:
    """Train by examples/your_own.toml where that was not done before, and return the result."""
    if not (out / "final").is_dir():
        out.parent.mkdir(parents=True, exist_ok=True)
        text = _EXAMPLE.read_text().partition("[validation]")[0]
        for old, new in (
            ("../groundserve/checkpoints/digits", _DIGITS),
            ("../runs/your_own/run", out),
            ("../runs/your_own/train/own.json", records),
            ("../runs/your_own/train", root),
            ("epochs = 3", f"max_steps = {steps}\nseed = {seed}"),
        ):
            text = text.replace(old, str(new))
        config = out.with_suffix(".toml")
        config.write_text(text)
        groundserve("train", "grounding", "--config", config)
    return out / "final"


def measure_training(
    work: Path, *, noise: float, steps: int, num_videos: int, num_seeds: int
) -> dict[str, Any]:
    """Train on truth and on annotations, and evaluate on videos that nobody has seen."""
    pilot, large, test = (work / name for name in ("pilot", "large", "test"))
    make_own_set(pilot, split="train", seed=11, num_videos=20)
    make_own_set(test, split="validation", seed=12, num_videos=20)
    records = make_own_set(large, split="train", seed=31, num_videos=num_videos)

    def frame_ap(checkpoint: Path) -> dict[str, float]:
        words = ["--records", test / "own.json", "--media-root", test, "--checkpoint", checkpoint]
        figures = groundserve("eval", *words)["report"]["overall"]
        found: dict[str, float] = figures["frame_ap"]
        return found | {"chance": figures["random_ap"]["value"]}

    grounder = train(pilot / "own.json", pilot, work / "runs" / "pilot", steps=steps, seed=0)
    out = work / "own-run"
    annotated = annotate(records, large, out, noise=noise, checkpoint=grounder)
    arms = {
        "truth": large / "own.json",
        "verified": out / "annotations.json",
        "unverified": out / "annotations_all.json",
    }
    by_seed: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for seed in range(1, num_seeds + 1):
        for name, path in arms.items():
            place = work / "runs" / f"{name}-{seed}"
            by_seed[name].append(frame_ap(train(path, large, place, steps=steps, seed=seed)))
    mean = {name: float(np.mean([one["value"] for one in it])) for name, it in by_seed.items()}
    return {
        "frame_ap": {"untrained": frame_ap(_DIGITS), "second_grounder": frame_ap(grounder)},
        "frame_ap_by_seed": by_seed,
        "mean_frame_ap": mean,
        "of_truth": {name: it / mean["truth"] for name, it in mean.items()},
        "annotations": annotated,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--num-videos", type=positive, default=20)
    parser.add_argument("--steps", type=positive, default=60)
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--parts", type=list_of(str), default=["agreement", "training"])
    given = parser.parse_args()
    work, noise, num_videos = given.work.absolute(), given.noise, given.num_videos
    results: dict[str, Any] = {"noise": noise, "steps": given.steps, "videos": num_videos}
    if "agreement" in given.parts:
        usual = work / "usual"
        records = make_set(usual, split="validation", seed=21, num_videos=num_videos)
        out = work / "usual-run"
        results["agreement"] = annotate(records, usual, out, noise=noise, checkpoint=_DIGITS)
    if "training" in given.parts:
        results["training"] = measure_training(
            work, noise=noise, steps=given.steps, num_videos=num_videos, num_seeds=given.seeds
        )
    write_report(given.out, "are annotations of a noisy model right, and learnt from", results)


if __name__ == "__main__":
    run(main)

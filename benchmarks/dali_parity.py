"""What does decoding with DALI instead of PyAV change in the scores?

    python -m benchmarks.dali_parity --clips .venv/clips [--out JSON]

On the CPU, where DALI decodes VP9: MovingDigits test videos and the clip `bikes.mp4`, transcoded to
VP9, are scored by the shipped checkpoint from the frames of both decoders. For scale, the same
numbers for what transcoding alone does, both files decoded by PyAV.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._report import write_report
from benchmarks.segment_cut import run_ffmpeg
from groundserve import ScoreOptions
from groundserve.deadline import Deadline
from groundserve.evaluation.frames import average_precision
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.decode import DaliDecoder
from python_backend.pipeline import Pipeline
from train.digits.dataset import write_grounding_set

TOP_K = 8
OPTIONS = ScoreOptions(sampling="infer", sample_fps=1.0, top_k=TOP_K)
# The clip lasts 10 s.
CLIP_OPTIONS = replace(OPTIONS, sample_fps=5.0)
CLIP_QUERIES = (
    "when does a seven appear?",
    "which frames show something moving left?",
    "what comes after the three?",
)
TEST_SEED = 2026


@dataclass(frozen=True, kw_only=True)
class Case:
    """One video and what is asked about it."""

    video: Path
    queries: list[str]
    relevant: list[list[int]]
    """Relevant sampled frames by question; empty where that is not known."""
    options: ScoreOptions


@dataclass(frozen=True, eq=False)
class Scored:
    """A case, scored."""

    frame_logits: NDArray[np.float32]
    """float32 (Q, T)."""
    selected_frames: list[set[int]]
    """K' source ordinals by question."""


def make_cases(folder: Path, clips: Path, num_videos: int) -> dict[str, list[Case]]:
    """Write the videos and list the questions."""
    records = json.loads(
        write_grounding_set(folder, split="test", seed=TEST_SEED, num_videos=num_videos).read_text()
    )
    digits = []
    for video, group in groupby(records, key=lambda record: record["video"]):
        of_video = list(group)
        digits.append(
            Case(
                video=folder / video,
                queries=[record["question"].removeprefix("<image>\n") for record in of_video],
                relevant=[record["frame_num"] for record in of_video],
                options=OPTIONS,
            )
        )
    clip = Case(
        video=clips / "bikes.mp4",
        queries=list(CLIP_QUERIES),
        relevant=[[] for _ in CLIP_QUERIES],
        options=CLIP_OPTIONS,
    )
    return {"digits": digits, "bikes": [clip]}


def to_vp9(video: Path, folder: Path) -> Path:
    """Encode at a quality where little is lost, so that decoders are compared and not codecs."""
    path = folder / f"{video.stem}.webm"
    quality = ("-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0", "-cpu-used", "6", "-g", "48")
    run_ffmpeg("-i", str(video), "-an", *quality, str(path))
    return path


def score(pipeline: Pipeline, case: Case, video: Path, *, decoder: str) -> Scored:
    """Score a case's questions about a file, and make sure of what decoded it."""
    features = pipeline.features(video, case.options, deadline=Deadline.after(600))
    assert features.info.decoders == [decoder], features.info.decoders
    logits = pipeline.ground(features.features, case.queries, deadline=Deadline.after(600))
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
    return Scored(logits, [set(features.frame_indices[row].tolist()) for row in best])


def compare(cases: Sequence[Case], ours: Sequence[Scored], theirs: Sequence[Scored]) -> Any:
    """Summarise over the questions how far two sets of scores differ."""
    changes, overlaps, taus, precisions = [], [], [], []
    for case, a, b in zip(cases, ours, theirs, strict=True):
        changes.append(np.abs(a.frame_logits - b.frame_logits).ravel())
        for query, relevant in enumerate(case.relevant):
            overlaps.append(len(a.selected_frames[query] & b.selected_frames[query]) / TOP_K)
            taus.append(kendall_tau(a.frame_logits[query], b.frame_logits[query]))
            if relevant:
                labels = np.isin(np.arange(a.frame_logits.shape[1]), relevant)
                precisions.append(
                    [average_precision(s.frame_logits[query], labels) for s in (a, b)]
                )
    change = np.concatenate(changes)
    all_logits = np.concatenate([scored.frame_logits.ravel() for scored in theirs])
    result: dict[str, Any] = {
        "num_videos": len(cases),
        "num_questions": len(taus),
        "num_logits": len(change),
        "logit_std": float(all_logits.std()),
        "logit_change": {
            "mean": float(change.mean()),
            "p99": float(np.percentile(change, 99)),
            "max": float(change.max()),
        },
        f"top_{TOP_K}_overlap": {"mean": float(np.mean(overlaps)), "min": float(min(overlaps))},
        "kendall_tau": {"mean": float(np.mean(taus)), "min": float(min(taus))},
    }
    if precisions:
        ap_a, ap_b = np.mean(precisions, axis=0)
        result["frame_ap"] = [float(ap_a), float(ap_b)]
    return result


def kendall_tau(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return tau-a: of all pairs of frames, those in the same order less those in the other."""
    first, second = np.triu_indices(len(a), 1)
    return float(np.mean(np.sign(a[first] - a[second]) * np.sign(b[first] - b[second])))


def pixel_change(
    pipeline: Pipeline, dali: Pipeline, cases: Sequence[Case], videos: Sequence[Path]
) -> dict[str, float]:
    """Return how far the two decoders' pixels differ, of 255, as the model sees them."""
    means, largest = [], 0
    for case, video in zip(cases, videos, strict=True):
        a, b = (frames_of(each, case, video).astype(np.int64) for each in (pipeline, dali))
        means.append(np.abs(a - b).mean())
        largest = max(largest, int(np.abs(a - b).max()))
    return {"mean": float(np.mean(means)), "max": largest}


def frames_of(pipeline: Pipeline, case: Case, video: Path) -> NDArray[np.uint8]:
    """Return the frames that the encoder is given."""
    chunks = []

    class Recorder:
        def encode(self, frames: Any, pooling: Any) -> Any:
            chunks.append(np.array(frames))
            return pipeline.encoder.encode(frames, pooling)

    recorder: Any = Recorder()
    replace(pipeline, encoder=recorder).features(video, case.options, deadline=Deadline.after(600))
    return np.concatenate(chunks)


def main() -> None:
    """Score everything three times."""
    parser = argparse.ArgumentParser(description=__doc__)
    clips = Path(os.environ.get("GROUNDSERVE_CLIPS_DIR", ".venv/clips"))
    parser.add_argument("--clips", type=Path, default=clips)
    parser.add_argument("--num-videos", type=int, default=40)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results: dict[str, Any] = {
        "dali": next(
            each.version
            for each in importlib.metadata.distributions()
            if each.name.startswith("nvidia-dali-")
        ),
        "device": "cpu",
        "checkpoint": SHIPPED_CHECKPOINT.name,
    }
    with (
        tempfile.TemporaryDirectory() as name,
        Pipeline.from_checkpoint(SHIPPED_CHECKPOINT) as pyav,
    ):
        folder = Path(name)
        model: Any = pyav.manifest.model  # of a family that has one image size
        decoder = DaliDecoder(
            image_size=model.image_size,
            device="cpu",
            num_threads=os.cpu_count() or 1,
            fallback=pyav.decoder,
        )
        dali = replace(pyav, decoder=decoder)
        for kind, cases in make_cases(folder, args.clips, args.num_videos).items():
            vp9 = [to_vp9(case.video, folder) for case in cases]
            h264 = [score(pyav, case, case.video, decoder="pyav") for case in cases]
            by_pyav = [score(pyav, c, v, decoder="pyav") for c, v in zip(cases, vp9, strict=True)]
            by_dali = [score(dali, c, v, decoder="dali") for c, v in zip(cases, vp9, strict=True)]
            results[kind] = {
                "pixel_change_dali_to_pyav": pixel_change(pyav, dali, cases, vp9),
                "dali_to_pyav": compare(cases, by_dali, by_pyav),
                "for_scale_vp9_to_h264_by_pyav": compare(cases, by_pyav, h264),
            }
    write_report(args.out, "what decoding with DALI instead of PyAV changes in the scores", results)


if __name__ == "__main__":
    main()

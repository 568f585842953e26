"""Where does the time go, stage by stage, and how near is each to its floor?

python -m benchmarks.stages --checkpoint DIR --engines DIR --video FILE [--num-frames 64]
    [--repeats 3] [--out JSON]

The stages of one question run one after the other in this process, each with all cores, where
`Pipeline.score` overlaps decoding with encoding. docs/benchmarks.md says what their floors are.
`convert` and `resize` are parts of `decode` and are timed on one core.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks._command import existing_file, positive, run
from benchmarks._machine import Peaks, measure_peaks
from benchmarks._report import describe_video, spread, write_report
from benchmarks._usage import Usage, measured
from benchmarks.gpu.size import Size
from groundserve import ScoreOptions
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from groundserve.media import FrameOutput, Segments, VideoSource
from groundserve.media._resize import FrameConverter, resize
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline
from python_backend.frame_buffer import FrameBuffer
from python_backend.ground import ground_questions
from python_backend.pipeline import Pipeline
from python_backend.select import select_for_questions
from python_backend.units import cut_chunks, gather_units

QUERY = "When does the rabbit come out of its hole?"
STAGES = ("probe", "cut", "decode", "convert", "resize", "encode", "ground", "select")
_SECONDS = 600.0


@dataclass(kw_only=True)
class Costs:
    """What the stages took and moved in one repeat."""

    usage: dict[str, list[Usage]] = field(default_factory=dict)
    """By stage, one entry a chunk."""
    num_bytes: dict[str, int] = field(default_factory=dict)
    """By stage, read and made."""
    floor_seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Book what the block takes."""
        with measured() as usage:
            yield
        self.usage.setdefault(stage, []).append(usage)

    def moved(self, stage: str, *arrays: NDArray[Any]) -> None:
        """Book what a stage read and made."""
        self.num_bytes[stage] = self.num_bytes.get(stage, 0) + sum(a.nbytes for a in arrays)

    def seconds(self, stage: str, clock: str) -> float:
        """Return the time of all chunks, "wall_seconds" or "cpu_seconds"."""
        return float(sum(getattr(usage, clock) for usage in self.usage[stage]))


def run_stages(pipeline: Pipeline, video: Path, options: ScoreOptions, peaks: Peaks) -> Costs:
    """Answer one question, each stage by itself."""
    costs, deadline = Costs(), Deadline.after(_SECONDS)
    manifest, model = pipeline.manifest, pipeline.manifest.model
    inputs = VisionInputs.of(manifest.seam, model)
    (stream,) = inputs.streams
    image_size = stream.size
    assert image_size is not None, "a family of one image size"
    questions = pipeline.parse_questions([QUERY])
    with ExitStack() as stack:
        source = stack.enter_context(VideoSource.from_path(video, limits=pipeline.limits))
        opening = pipeline.extractor.workers.open(source, deadline=deadline)
        with costs.timed("probe"):
            opened = stack.enter_context(opening)
        plan = manifest.seam.plan(opened.index, options, model, pipeline.limits)
        plan_inputs = inputs.of_plan(plan)
        features = []
        buffer = FrameBuffer()
        for chunk in cut_chunks(plan, inputs.streams):
            for group in chunk.groups:
                with costs.timed("cut"):
                    segments = opened.cut(group.frame_indices)
                with costs.timed("decode"):
                    decoded = pipeline.decoder.decode(segments, deadline=deadline)
                _run_bare_decoder(costs, segments, image_size=image_size, limits=pipeline.limits)
                frames = np.asarray(decoded.frames)
                costs.moved("cut", segments.data, segments.data)
                costs.moved("decode", segments.data, frames)
                buffer.put(decoded.frames)
            with costs.timed("encode"):
                (frames_of,) = chunk.streams
                taken = buffer.take(frames_of.num_frames, num_left=frames_of.num_left)
                units = gather_units(taken, frames_of.units)
                features.append(np.asarray(pipeline.encoder.encode(units, *plan_inputs)))
            costs.moved("encode", np.asarray(units), features[-1])
    all_features = np.concatenate(features)
    with costs.timed("ground"):
        logits = ground_questions(all_features, questions, pipeline.grounder, deadline=deadline)
    with costs.timed("select"):
        select_for_questions(logits, plan.frame_indices, options, deadline=deadline)
    costs.num_bytes["probe"] = video.stat().st_size
    costs.moved("ground", all_features, logits)
    costs.moved("select", logits)
    for stage in ("cut", "convert", "resize", "select"):
        costs.floor_seconds[stage] = peaks.copy_seconds(costs.num_bytes[stage])
    return costs


def _run_bare_decoder(costs: Costs, segments: Segments, *, image_size: int, limits: Limits) -> None:
    """Decode with FFmpeg alone on one thread; convert and resize the targets here, one by one."""
    bare = 0.0
    to_rgb = FrameConverter([FrameOutput()], limits)
    for file, local_frames in segments:
        wanted, pictures = set(local_frames.tolist()), []
        with av.open(io.BytesIO(file), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            started = time.perf_counter()
            for ordinal, picture in enumerate(container.decode(stream)):
                if ordinal in wanted:
                    pictures.append(picture)
            bare += time.perf_counter() - started
        with costs.timed("convert"):
            converted = [pixels for one in pictures for _, pixels in to_rgb(one, [0])]
        with costs.timed("resize"):
            small = [resize(pixels, image_size) for pixels in converted]
        costs.moved("convert", *converted)
        costs.moved("resize", *converted, *small)
    before = costs.floor_seconds.get("decode", 0.0)
    costs.floor_seconds["decode"] = before + bare / available_cpus()


def stage_rows(repeats: list[Costs], net_seconds: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Return each stage's medians over the repeats, its floor and the share of it reached."""
    rows = {}
    for stage in STAGES:
        wall = spread([costs.seconds(stage, "wall_seconds") for costs in repeats])
        # Of a floor that is timed itself, the best.
        floors = [c.floor_seconds[stage] for c in repeats if stage in c.floor_seconds]
        floor = net_seconds.get(stage, min(floors, default=None))
        rows[stage] = {
            "wall_seconds": wall,
            # A mean: of children that ended the kernel counts in hundredths of a second.
            "cpu_seconds": mean(costs.seconds(stage, "cpu_seconds") for costs in repeats),
            "bytes": repeats[0].num_bytes.get(stage),
            "floor_seconds": floor,
            "share_of_floor": None if floor is None else floor / wall["median"],
        }
    return rows


def main() -> None:
    """Measure one video."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--engines", type=Path, required=True, help="of profile cpu")
    parser.add_argument("--video", type=existing_file, required=True)
    parser.add_argument("--num-frames", type=positive, default=64)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    video = args.video.resolve()
    options = ScoreOptions(num_frames=args.num_frames)
    peaks = measure_peaks()
    with Pipeline.open(args.engines, verify_files=False) as pipeline:
        run_stages(pipeline, video, options, peaks)
        repeats = [run_stages(pipeline, video, options, peaks) for _ in range(args.repeats)]
        (text_ids,) = pipeline.parse_questions([QUERY]).text_ids
        num_frames = len(pipeline.score(video, QUERY, options).frame_indices)
    checkpoint = Checkpoint.open(args.checkpoint)
    size = Size.of(checkpoint, num_frames=num_frames, num_text_tokens=len(text_ids))
    results = {
        "num_frames": num_frames,
        "net_flop": size.net_flop(),
        "stages": stage_rows(repeats, peaks.net_seconds(size.net_flop())),
    }
    write_report(
        args.out,
        "time, processor seconds and bytes of each stage, beside its floor",
        results,
        inputs=[describe_video(video)],
        warm_up="one question about the same video",
        repeats=args.repeats,
        peaks=peaks,
    )


if __name__ == "__main__":
    run(main)

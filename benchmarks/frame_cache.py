"""What does the JPEG frame cache of training save, lose and take?

    python -m benchmarks.frame_cache --out benchmarks/results/frame_cache_cpu_DATE.json
    python -m benchmarks.frame_cache --table benchmarks/results/frame_cache_cpu_DATE.json

Three questions. What JPEG changes in a frame, and how large it is: frames of 384 x 384 of two
photographs panned over as 1280x720 H.264, against other formats. What that changes in scores:
`digits`, whose frames of 72 x 72 pixels suffer more than those of the released tower. What a second
epoch saves: the same videos read with an empty and with a full cache, in pairs.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks._report import write_report
from groundserve.data_record import Media
from groundserve.evaluation.frames import average_precision
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.encode.torch import TorchEncoder
from python_backend.ground.torch import TorchGrounder
from train.data.frame_cache import QUALITY
from train.data.media import FrameReader
from train.digits.dataset import draw_video
from train.digits.questions import Question
from train.digits.render import render_second
from train.families.videoitg.samples import RuleA
from train.trial import cpu_seconds

IMAGE_SIZE = 384
WIDTH, HEIGHT, RATE = 1280, 720, 25
FRAMES_A_THOUSAND_HOURS = 1000 * 3600  # at 1 a second
NUM_SELECTED = 8
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG 90 4:2:0": {"format": "JPEG", "quality": 90, "subsampling": "4:2:0"},
    "JPEG 95 4:2:0": {"format": "JPEG", "quality": 95, "subsampling": "4:2:0"},
    f"JPEG {QUALITY} 4:4:4 (the cache)": {
        "format": "JPEG",
        "quality": QUALITY,
        "subsampling": "4:4:4",
    },
    "WebP 90": {"format": "WEBP", "quality": 90},
    "PNG": {"format": "PNG"},
}
CACHE_FORMAT = f"JPEG {QUALITY} 4:4:4 (the cache)"

Frames = NDArray[np.uint8]


def write_pan(path: Path, photo: Frames, *, num_frames: int) -> None:
    """Encode a slow pan over a photograph, at a rate usual for 720p."""
    large = np.asarray(Image.fromarray(photo).resize((2 * WIDTH, 2 * HEIGHT)))
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 2_500_000
        stream.options = {"preset": "veryfast", "g": "250"}
        for i in range(num_frames):
            x, y = (int(side * i / num_frames) for side in (WIDTH, HEIGHT))
            picture = np.ascontiguousarray(large[y : y + HEIGHT, x : x + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def through(frames: Frames, options: dict[str, Any]) -> tuple[Frames, int]:
    """Return frames as a format gives them back, and the bytes of all."""
    found, num_bytes = [], 0
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, **options)
        num_bytes += file.tell()
        found.append(np.asarray(Image.open(file).convert("RGB")))
    return np.stack(found), num_bytes


def compare_formats(frames: Frames) -> dict[str, dict[str, float]]:
    """Return, by format, errors in steps of 0 to 255, sizes, and milliseconds to read a frame."""
    rows = {}
    for name, options in FORMATS.items():
        found, num_bytes = through(frames, options)
        error = found.astype(np.int64) - frames
        size = num_bytes / len(frames)
        rows[name] = {
            "mean_error": float(np.abs(error).mean()),
            "rms_error": float(np.sqrt((error**2).mean())),
            "largest_error": int(np.abs(error).max()),
            "kilobytes_a_frame": size / 1e3,
            "gigabytes_a_thousand_hours": size * FRAMES_A_THOUSAND_HOURS / 1e9,
            "read_ms_a_frame": _read_ms(frames[:16], options),
        }
    return rows


def _read_ms(frames: Frames, options: dict[str, Any]) -> float:
    files = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, **options)
        files.append(file)
    started = time.process_time()
    for file in files:
        np.asarray(Image.open(file).convert("RGB"))
    return (time.process_time() - started) * 1e3 / len(frames)


def digits_videos(number: int, image_size: int) -> list[tuple[Frames, list[Question]]]:
    """Return 48 frames and the questions of held-out videos, never encoded."""
    videos = []
    for i in range(number):
        world, questions = draw_video(
            np.random.default_rng((20261122, i)), split="test", num_frames=48
        )
        pictures = [Image.fromarray(render_second(world, second)) for second in range(48)]
        frames = np.stack([np.asarray(one.resize((image_size, image_size))) for one in pictures])
        videos.append((frames, questions))
    return videos


def score_digits(num_videos: int) -> dict[str, Any]:
    """Score the same frames as they are and through JPEG."""
    opened = Checkpoint.open(SHIPPED_CHECKPOINT)
    tokenizer, pad_token_id = opened.load_tokenizer()
    model = opened.model_spec(pad_token_id=pad_token_id)
    queries = QueryTokenizer(tokenizer, pad_token_id=pad_token_id)
    encoder, grounder = TorchEncoder(opened.load_vision()), TorchGrounder(opened.load_grounding())

    def logits(frames: Frames, questions: list[Question]) -> NDArray[np.float32]:
        pool = pooling_weights(_grid(len(frames), model), side=model.side)
        features = encoder.encode(frames, pool[None])
        return np.stack([grounder.ground(features, queries.text_ids(q.text)) for q in questions])

    errors, shifts, pixels = list[float](), list[float](), list[float]()
    overlaps, precisions = list[float](), list[tuple[float, float]]()
    for frames, questions in digits_videos(num_videos, model.image_size):
        changed, _ = through(frames, FORMATS[CACHE_FORMAT])
        pixels.append(float(np.abs(changed.astype(np.int64) - frames).mean()))
        for before, after, question in zip(
            logits(frames, questions), logits(changed, questions), questions, strict=True
        ):
            shift = np.abs(after - before)
            shifts += shift.tolist()
            errors.append(float(shift.max()))
            best = [set(np.argsort(-one, kind="stable")[:NUM_SELECTED]) for one in (before, after)]
            overlaps.append(len(best[0] & best[1]) / NUM_SELECTED)
            labels = np.isin(np.arange(len(frames)), question.seconds)
            if labels.any():
                precisions.append(
                    (average_precision(before, labels), average_precision(after, labels))
                )
    changes = np.diff(np.array(precisions), axis=1)
    return {
        "videos": num_videos,
        "questions": len(errors),
        "image_size": model.image_size,
        "mean_pixel_error": float(np.mean(pixels)),
        "logit_shift": {
            "mean": float(np.mean(shifts)),
            "p99": float(np.percentile(shifts, 99)),
            "largest": float(np.max(shifts)),
        },
        f"top_{NUM_SELECTED}_overlap_mean": float(np.mean(overlaps)),
        "frame_ap": {
            "as_decoded": float(np.mean([one[0] for one in precisions])),
            "cached": float(np.mean([one[1] for one in precisions])),
            "standard_error_of_change": float(changes.std(ddof=1) / np.sqrt(len(changes))),
        },
    }


def _grid(num_frames: int, model: VideoITGSpec) -> int:
    return grid_side(num_frames, vision_token_num=model.vision_token_num, side=model.side)


def time_epochs(root: Path, names: list[str]) -> tuple[dict[str, Any], Frames]:
    """Read every video without a cache, with an empty one and with a full one, in turn."""
    options: dict[str, Any] = {
        "image_size": IMAGE_SIZE,
        "sample": RuleA(),
        "max_frames": 1024,
        "num_workers": 1,
    }
    pairs, decoded = [], []
    with (
        closing(FrameReader(root, **options)) as plain,
        closing(FrameReader(root, frame_cache=root / "cache", **options)) as cached,
    ):
        for reader in (plain, cached):  # starts the processes that decode
            reader.read(Media("video", names[0]), sample_fps=0.5)
        for name in names:

            def read(reader: FrameReader, name: str = name) -> Frames:
                return reader.read(Media("video", name), sample_fps=1.0)

            frames, without = _timed(plain, read)
            _, first = _timed(cached, read)
            _, second = _timed(cached, read)
            decoded.append(frames)
            pairs.append(
                {
                    "frames": len(frames),
                    "without": without,
                    "first_epoch": first,
                    "second_epoch": second,
                    "ratio": second / without,
                }
            )
    num_bytes = sum(file.stat().st_size for file in (root / "cache").rglob("*.safetensors"))
    num_frames = sum(pair["frames"] for pair in pairs) + len(frames[::2])
    return {
        "video": f"{WIDTH}x{HEIGHT} H.264, {RATE} frames a second",
        "unit": "core-seconds of decoder and reader",
        "pairs": pairs,
        "median_ratio": float(np.median([pair["ratio"] for pair in pairs])),
        "kilobytes_a_frame_on_disk": num_bytes / num_frames / 1e3,
    }, np.concatenate(decoded)


def _timed(reader: FrameReader, read: Callable[[FrameReader], Frames]) -> tuple[Frames, float]:
    started = cpu_seconds(reader.pids())
    frames = read(reader)
    return frames, cpu_seconds(reader.pids()) - started


def table(report: dict[str, Any]) -> str:
    """Return the table of docs/training_runs.md from a report of this benchmark."""
    frames = report["results"]["frames"]
    rows = [
        "| format | bytes a frame | 1,000 hours at 1 a second "
        "| error of a pixel: mean, rms, largest | to read a frame |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in FORMATS:
        row = frames[name]
        errors = f"{row['mean_error']:.1f}, {row['rms_error']:.1f}, {row['largest_error']}"
        rows.append(
            f"| {name} | {row['kilobytes_a_frame']:.0f} kB "
            f"| {row['gigabytes_a_thousand_hours']:.0f} GB | {errors} "
            f"| {row['read_ms_a_frame']:.1f} ms |"
        )
    return "\n".join(rows)


def main() -> None:
    """Print the results as JSON, and write them where `--out` says."""
    from sklearn.datasets import load_sample_images

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=40, help="of each video")
    parser.add_argument("--videos", type=int, default=6, help="to read")
    parser.add_argument("--digits-videos", type=int, default=20)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--table", type=Path, help="print the table of a JSON file")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text("utf-8"))))
        return
    photos = load_sample_images().images
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        names = [f"{i}.mp4" for i in range(arguments.videos)]
        for i, name in enumerate(names):
            # Each another way over one of the photographs.
            photo = np.rot90(photos[i % 2], k=2 * (i // 2 % 2))[:, :: 1 if i < 4 else -1]
            write_pan(root / name, np.ascontiguousarray(photo), num_frames=arguments.seconds * RATE)
        epochs, frames = time_epochs(root, names)
    results = {
        "frames": {"count": len(frames), "size": IMAGE_SIZE, **compare_formats(frames)},
        "digits": score_digits(arguments.digits_videos),
        "epochs": epochs,
    }
    write_report(arguments.out, "What does the JPEG frame cache save, lose and take?", results)


if __name__ == "__main__":
    main()

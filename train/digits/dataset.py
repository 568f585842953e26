"""MovingDigits on disk: media files, and records in the formats that the reference trains on.

    python -m train.digits.dataset --out digits --split test --seed 7 --num-videos 100

Everything follows from the split, the seed and `VERSION`; videos also from the build of x264.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from groundserve.data_record import CLIP_SECONDS
from groundserve.errors import InvalidRequestError
from train.digits.handwritten import SPLITS, Split
from train.digits.questions import (
    ABSENT_TYPES,
    TYPES,
    Question,
    ask,
    ask_absent,
    scene_caption,
    scene_conversation,
    video_conversation,
)
from train.digits.render import render_second, write_video
from train.digits.world import MOTIONS, NUM_DIGITS, World, make_scene, make_world

VERSION = "1"
"""Raised whenever the same seed would give other videos, questions or labels."""
NUM_FRAME_TARGETS = NUM_DIGITS + len(MOTIONS)
"""A: each digit, each motion."""

_NUM_ABSENT = 1  # a video
_WORLD_TRIES = 20
_ORDER_TRIES = 3
_MIN_DIGITS = 4  # of a video, so that three distract from any one
# What a stream of random numbers is for; two never share one.
_STREAMS = {"grounding": 0, "images": 1, "videos": 2, "moments": 3}


def write_grounding_set(
    out: Path,
    *,
    split: Split,
    seed: int,
    num_videos: int,
    num_frames: int = 48,
    num_more_order: int = 0,
) -> Path:
    """Write `videos/` with a question of each type and one about something absent.

    The split, whose handwriting is drawn, is part of the seed. `num_frames` are seconds, of which
    sampling takes a frame each. `num_more_order` are further questions of the hardest type,
    `order`, as far as there are any that differ; with them the `frame_targets` tell order too, and
    all else stays the same. Returned is `records.json`, VideoITG-40K's format with `frame_targets`
    and `type`.
    """
    (out / "videos").mkdir(parents=True, exist_ok=True)
    records = []
    for number, rng in item_streams("grounding", split, seed, num_videos, num_frames):
        world, questions = draw_video(rng, split=split, num_frames=num_frames)
        # Drawn last of the item's stream, so that what came before is the same without them.
        questions += _more_order(world, rng, questions, num_more_order)
        name = f"videos/{number:05d}.mp4"
        write_video(world, out / name)
        targets = frame_targets(world, knows_order=num_more_order > 0)
        for place, question in enumerate(questions):
            records.append(
                {
                    "id": f"{split}-{seed}-{number:05d}-{place}",
                    "video": name,
                    "question": f"<image>\n{question.text}",
                    "answer": question.answer,
                    # At one frame a second the seconds are the ordinals of the sampled frames.
                    "frame_num": list(question.seconds),
                    "clip_num": sorted({second // CLIP_SECONDS for second in question.seconds}),
                    "motion": "Yes" if "motion" in question.type else "No",
                    "existence": "Yes" if question.is_absent else "No",
                    "type": question.type,
                    "frame_targets": targets,
                }
            )
    return _write_json(out / "records.json", records)


def write_image_set(out: Path, *, split: Split, seed: int, num_images: int) -> None:
    """Write `images/`, `captions.json` for stage 1 and `conversations.json` for stage 2."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    captions, conversations = [], []
    for number, rng in item_streams("images", split, seed, num_images, 1):
        world = make_scene(rng, split=split)
        name = f"images/{number:05d}.png"
        Image.fromarray(render_second(world, 0)).save(out / name)
        item: dict[str, Any] = {"id": f"{split}-{seed}-{number:05d}", "image": name}
        captions.append({**item, "conversations": scene_caption(world)})
        item["conversations"] = scene_conversation(world, rng)
        item["frame_targets"] = frame_targets(world, knows_motion=False)
        conversations.append(item)
    _write_json(out / "captions.json", captions)
    _write_json(out / "conversations.json", conversations)


def write_video_set(
    out: Path, *, split: Split, seed: int, num_videos: int, num_frames: int = 16
) -> Path:
    """Write `videos/` and `conversations.json` (stage 3), LLaVA's format with `frame_targets`."""
    (out / "videos").mkdir(parents=True, exist_ok=True)
    records = []
    for number, rng in item_streams("videos", split, seed, num_videos, num_frames):
        world = make_world(rng, split=split, num_seconds=num_frames)
        name = f"videos/{number:05d}.mp4"
        write_video(world, out / name)
        records.append(
            {
                "id": f"{split}-{seed}-{number:05d}",
                "video": name,
                "conversations": video_conversation(world, rng),
                "frame_targets": frame_targets(world),
            }
        )
    return _write_json(out / "conversations.json", records)


def draw_video(
    rng: np.random.Generator, *, split: Split, num_frames: int
) -> tuple[World, list[Question]]:
    """Draw a world of which every type of question can be asked, and the questions.

    A video of a few seconds may be too short for some types; then those that fit are asked.
    """
    for _ in range(_WORLD_TRIES):
        world = make_world(rng, split=split, num_seconds=num_frames)
        questions = [question for kind in TYPES if (question := ask(world, rng, kind))]
        num_digits = len({event.digit for event in world.events})
        if len(questions) == len(TYPES) and num_digits >= _MIN_DIGITS:
            break
    # Where everything of the type is there, the video has no absent question.
    for number in rng.permutation(len(ABSENT_TYPES))[:_NUM_ABSENT]:
        absent = ask_absent(world, rng, ABSENT_TYPES[number])
        if absent is not None:
            questions.append(absent)
    return world, questions


def _more_order(
    world: World, rng: np.random.Generator, questions: list[Question], number: int
) -> list[Question]:
    texts = {question.text for question in questions}
    more: list[Question] = []
    # A few tries each: a short video has few such questions, and the same may be drawn again.
    for _ in range(_ORDER_TRIES * number):
        question = ask(world, rng, "order")
        if question is not None and question.text not in texts and len(more) < number:
            more.append(question)
            texts.add(question.text)
    return more


def frame_targets(
    world: World, *, knows_motion: bool = True, knows_order: bool = False
) -> dict[str, Any]:
    """Return what each second shows: digits, motions, and right before and after what digits."""
    frames = []
    digits = [event.digit for event in world.events]
    # Events as keys: frozen, and in a video no two are equal, as no two begin in one second.
    before = dict(zip(world.events[1:], digits, strict=False))
    after = dict(zip(world.events, digits[1:], strict=False))
    for second in range(world.num_seconds):
        targets: set[int] = set()
        for event in world.shown(second):
            targets.add(event.digit)
            if knows_motion:
                targets.add(NUM_DIGITS + MOTIONS.index(event.motion))
            if knows_order and event in before:
                targets.add(NUM_FRAME_TARGETS + before[event])
            if knows_order and event in after:
                targets.add(NUM_FRAME_TARGETS + NUM_DIGITS + after[event])
        frames.append(sorted(targets))
    num_neighbours = 2 * NUM_DIGITS if knows_order else 0
    return {"num": NUM_FRAME_TARGETS + num_neighbours, "frames": frames}


def item_streams(
    purpose: str, split: Split, seed: int, number: int, num_frames: int
) -> Iterator[tuple[int, np.random.Generator]]:
    """Yield each item's number and random numbers, which no other item shares."""
    if seed < 0 or number < 1 or num_frames < 1:
        raise InvalidRequestError(
            f"seed must be >= 0, the number of items and frames >= 1, got {seed}, {number} and "
            f"{num_frames}"
        )
    for item in range(number):
        # The item's number last: a larger set begins with the items of a smaller one.
        keys = [_STREAMS[purpose], SPLITS.index(split), seed, num_frames, item]
        yield item, np.random.default_rng(keys)


def _write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value) + "\n", "utf-8")
    return path


def main() -> None:
    """Write a grounding set."""
    parser = argparse.ArgumentParser(description="Write MovingDigits videos with questions.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-videos", type=int, default=100)
    parser.add_argument("--num-frames", type=int, default=48)
    arguments = parser.parse_args()
    print(write_grounding_set(**vars(arguments)))  # noqa: T201 - a command


if __name__ == "__main__":
    main()

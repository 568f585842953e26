"""A corpus of a few bytes, a scorer that computes nothing, and a driver without Ray."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from groundserve.batch.errors import ErrorKind
from groundserve.batch.keys import Fingerprint
from groundserve.batch.plan import Plan
from groundserve.batch.row import Group
from groundserve.batch.rows import BadRow, Row
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.shards import Unit
from groundserve.errors import GroundserveError, MediaError
from groundserve.options import ScoreOptions
from groundserve.results import ScoreResult, VideoInfo, build_score_result
from groundserve.selection import select_frames, sigmoid

FINGERPRINT = Fingerprint(
    engine_id="e" * 64,
    model="digits",
    family="videoitg",
    precision="fp32",
    defaults=ScoreOptions(),
    span_threshold=0.5,
    span_gap_seconds=0.0,
)
ENGINE = {"id": FINGERPRINT.engine_id, "family": "videoitg", "precision": "fp32"}
NUM_FRAMES = 5


def make_row(video: Path, query: str, *, id: str = "", position: int = 0, **options: object) -> Row:
    return Row(
        id=id,
        video=video.name,
        place=str(video),
        query=query,
        options=ScoreOptions(**options),
        position=position,
    )


def make_corpus(folder: Path, num_videos: int, num_queries: int) -> list[Row]:
    """Rows of all videos with all questions, videos taking turns."""
    folder.mkdir(exist_ok=True)
    videos = [folder / f"{number}.mp4" for number in range(num_videos)]
    for number, video in enumerate(videos):
        video.write_bytes(b"%d" % number)
    asked = [(video, f"q{question}") for question in range(num_queries) for video in videos]
    return [
        make_row(video, query, id=f"{query}/{video.stem}", position=position)
        for position, (video, query) in enumerate(asked)
    ]


def score(content: bytes, queries: Iterable[str], options: ScoreOptions, **info) -> ScoreResult:
    """Logits that follow from the video's bytes and the question, as a scorer's do."""
    queries = list(queries)
    logits = np.stack(
        [
            np.frombuffer(
                hashlib.sha256(content + query.encode()).digest()[:NUM_FRAMES], np.uint8
            ).astype(np.float32)
            / 64
            - 2
            for query in queries
        ]
    )
    indices = np.arange(NUM_FRAMES, dtype=np.int64) * 10
    selected = np.stack(
        [
            select_frames(one, indices, num_selected=options.top_k, selector=options.selector)
            for one in logits
        ]
    )
    facts = {
        "num_source_frames": 50,
        "fps": 10.0,
        "duration_seconds": 5.0,
        "num_frames": NUM_FRAMES,
        "engine": ENGINE,
        "decoders": ["pyav"],
        "cache_hit": False,
        "keyframe_shift_seconds": 0.0,
        "video_bytes": len(content),
        "timing_ms": {"decode": 2.0, "ground": 1.0},
    }
    return build_score_result(
        queries,
        video="somewhere",
        info=VideoInfo(**{**facts, **info}),
        frame_indices=indices,
        pts_seconds=indices / 10,
        frame_logits=logits,
        frame_scores=sigmoid(logits),
        selected_frames=selected,
        span_threshold=0.5,
        span_gap_seconds=0.0,
    )


Fails = Callable[[str], bool]


def work(*groups: Group, fails: Fails = lambda query: False) -> Unit:
    """Do what a worker does; questions that `fails` names have a corrupt video."""
    unit = Unit(0)
    for group in groups:
        for options, queries in group.calls(1):
            try:
                unit.add(group, options, answer(group, queries, options, fails))
            except GroundserveError as error:
                unit.fail(group, ErrorKind.UNREADABLE, str(error), options, queries)
    return unit


def answer(group: Group, queries: Iterable[str], options: ScoreOptions, fails: Fails):
    queries = list(queries)
    if any(map(fails, queries)):
        raise MediaError(f"cannot answer {queries[0]}")
    return score(Path(group.place).read_bytes(), queries, options)


def run(
    place: Path | str,
    rows: Iterable[Row | BadRow],
    *,
    fails: Fails = lambda query: False,
    fingerprint: Fingerprint = FINGERPRINT,
    is_resume: bool = True,
    max_attempts: int = 3,
) -> list[str]:
    """Do what a driver does, and return what it had to say."""
    with (
        RunDirectory(
            str(place), fingerprint, manifest="manifest.jsonl", is_resumed=is_resume
        ) as directory,
        Plan.make(
            rows,
            fingerprint=fingerprint,
            done=directory.done(),
            failures=directory.failures(),
            max_attempts=max_attempts,
        ) as plan,
    ):
        for group in plan.groups():
            directory.publish([work(group, fails=fails)])
        directory.finish(plan)
        return list(directory.said)


def final_rows(place: Path) -> dict[str, dict]:
    """Every row of every *.parquet file below, by id; each id is there once."""
    rows = [row for path in place.rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows), "an id is there twice"
    return dict(sorted(by_id.items()))

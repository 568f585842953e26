from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from groundserve import frame_files
from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.frame_files import FrameFiles, file_prefix
from groundserve.frames import read_frames
from groundserve.results import ScoreResult, build_score_result
from groundserve.selection import sigmoid
from tests.support.reference import SET_2
from tests.support.results import make_info

VFR = SET_2 / "vfr.mp4"
FRAME_INDICES = np.arange(0, 100, 10)
PTS_SECONDS = FRAME_INDICES / 2.0 + 90
# By score: 30, 20, 10, 0 for the first question; 90, 30, 20 for the second.
LOGITS = np.array([[1, 2, 3, 4, 0, 0, 0, 0, 0, 0], [0, 0, 1, 2, 0, 0, 0, 0, 0, 3]], np.float32)
QUERIES = ["When?", 'Où, "là"?']


def answer(*selected: list[int], video: str = "vfr.mp4") -> ScoreResult:
    """Of each question its own number of frames, as no single request has."""
    results = [
        build_score_result(
            [query],
            video=video,
            info=make_info(num_source_frames=100, fps=2.0, duration_seconds=150.0),
            frame_indices=FRAME_INDICES,
            pts_seconds=PTS_SECONDS,
            frame_logits=logits[None],
            frame_scores=sigmoid(logits)[None],
            selected_frames=np.array([ordinals]),
            span_threshold=0.5,
            span_gap_seconds=0.0,
        )
        for query, logits, ordinals in zip(QUERIES, LOGITS, selected, strict=False)
    ]
    return replace(results[0], queries=[query for one in results for query in one.queries])


TWO_QUESTIONS = answer([0, 10, 20, 30], [20, 30, 90])


def names(folder: Path) -> list[str]:
    """All there is, hidden or not."""
    return sorted(os.listdir(folder))


def test_names_and_index_of_two_questions(tmp_path):
    index = FrameFiles(tmp_path, VFR).write(TWO_QUESTIONS)
    prefix = file_prefix(VFR)
    images = [
        f"{prefix}_{rest}.png"
        for rest in (
            *("q1_r1_105s000", "q1_r2_100s000", "q1_r3_095s000", "q1_r4_090s000"),
            *("q2_r1_135s000", "q2_r2_105s000", "q2_r3_100s000"),
        )
    ]
    assert index == tmp_path / f"{prefix}_index.jsonl"
    assert names(tmp_path) == [index.name, *images]
    lines = [json.loads(line) for line in index.read_text("utf-8").splitlines()]
    assert [line["frame_index"] for line in lines] == [0, 10, 20, 30, 20, 30, 90]
    assert [line["rank"] for line in lines] == [4, 3, 2, 1, 3, 2, 1]
    assert [line["question"] for line in lines] == [1, 1, 1, 1, 2, 2, 2]
    assert lines[-1] == {
        "file": images[4],
        "video": "vfr.mp4",
        "question": 2,
        "query": QUERIES[1],
        "rank": 1,
        "frame_index": 90,
        "seconds": 135.0,
        "score": float(sigmoid(LOGITS)[1, 9]),
    }
    assert {line["file"] for line in lines} == set(images)


def test_jpeg_is_close_to_it(tmp_path):
    FrameFiles(tmp_path, VFR, image_format="jpeg").write(answer([30]))
    (path,) = tmp_path.glob("*.jpg")
    with Image.open(path) as image:
        expected = Image.fromarray(read_frames(VFR, [30])[0])
        expected.save(tmp_path / "expected", "JPEG", quality=95, subsampling="4:4:4")
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert path.read_bytes() == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("my talk (final) v1.2.mp4", "my_talk_final_v1_2"),
        ("..hidden.mp4", "hidden"),
        ("été 東京.mp4", "été_東京"),
        ("a\nb\x00c'd\"e$f`g;h&i|j*k?.mp4".replace("\x00", ""), "a_bc_d_e_f_g_h_i_j_k"),
        (os.fsdecode(b"caf\xe9 \xff.mp4"), "caf"),
        ("東" * 80 + ".mp4", "東" * 33),
    ],
)
def test_names_are_safe_whatever_the_videos_is(name, readable, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    video = folder / name
    video.symlink_to(VFR)  # the folder's file system takes the name
    prefix = file_prefix(video)
    assert prefix.rpartition("-")[0] == readable
    index = FrameFiles(tmp_path / "out", video).write(answer([30], video=str(video)))
    for written in names(tmp_path / "out"):
        assert len(written.encode()) <= 200
        assert written.count(".") == 1
        assert written.startswith(f"{prefix}_")
    (line,) = index.read_text("utf-8").splitlines()
    assert json.loads(line)["video"] == str(video)


def test_namesakes_share_a_folder_and_a_link_is_the_same_video(tmp_path):
    videos = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        videos.append(tmp_path / folder / "talk.mp4")
        videos[-1].write_bytes(VFR.read_bytes())
    out = tmp_path / "out"
    for video in videos:
        FrameFiles(out, video).write(answer([30]))
    assert len(names(out)) == 4
    (tmp_path / "c").symlink_to("a")
    assert file_prefix(tmp_path / "c" / "talk.mp4") == file_prefix(videos[0])
    assert file_prefix(Path(os.path.relpath(videos[0]))) == file_prefix(videos[0])


def another(result: ScoreResult, query: str) -> ScoreResult:
    """Return the same answer to another question."""
    return replace(result, queries=[replace(one, query=query) for one in result.queries])


@pytest.mark.parametrize("end", ["full disk", "another process"])
def test_an_end_while_frames_are_added_leaves_those_before(tmp_path, monkeypatch, end):
    FrameFiles(tmp_path, VFR).write(answer([30]))
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    files = FrameFiles(tmp_path, VFR)
    if end == "full disk":
        fail_at(monkeypatch, os, "replace", 2)
        with pytest.raises(GroundserveError, match="No space left on device"):
            files.write(another(answer([20, 30]), "Who?"))
    else:

        def encode(*args: object) -> bytes:
            monkeypatch.undo()
            FrameFiles(tmp_path, VFR).write(another(answer([10]), "What?"))
            before.update({path.name: path.read_bytes() for path in tmp_path.glob("[!.]*")})
            return b"image"

        monkeypatch.setattr(frame_files, "encode_image", encode)
        with pytest.raises(InvalidRequestError, match="has changed meanwhile: another process"):
            files.write(another(answer([30]), "Who?"))
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_file_that_appears_meanwhile_is_kept_and_nothing_is_added(tmp_path):
    files = FrameFiles(tmp_path, VFR)
    other = tmp_path / f"{file_prefix(VFR)}_q1_r2_100s000.png"
    other.write_bytes(b"another's")
    with pytest.raises(InvalidRequestError, match=f"{other.name} exists: .*remove that file"):
        files.write(answer([20, 30]))
    assert names(tmp_path) == [other.name]
    assert other.read_bytes() == b"another's"


@pytest.mark.parametrize("number", [1, 2])
def test_an_end_while_files_are_moved_leaves_nothing(number, tmp_path, monkeypatch):
    files = FrameFiles(tmp_path, VFR)
    fail_at(monkeypatch, os, "replace", number, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        files.write(answer([20, 30]))
    assert names(tmp_path) == []


def test_the_index_is_the_last_to_appear(tmp_path, monkeypatch):
    def append(file: IO[bytes], lines: bytes) -> None:
        assert len(list(tmp_path.glob("*.png"))) == lines.count(b"\n") == 7
        raise KeyboardInterrupt

    monkeypatch.setattr(frame_files, "append_whole", append)
    with pytest.raises(KeyboardInterrupt):
        FrameFiles(tmp_path, VFR).write(TWO_QUESTIONS)
    assert names(tmp_path) == []


def fail_at(
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    number: int,
    error: BaseException | None = None,
) -> None:
    """Have the nth call raise, as on a full disk."""
    calls = []
    original: Callable[..., object] = getattr(owner, name)

    def call(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == number:
            raise error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **options)

    monkeypatch.setattr(owner, name, call)

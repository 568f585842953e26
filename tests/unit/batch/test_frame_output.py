from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundserve import storage
from groundserve.batch.frame_output import (
    FrameEntry,
    FrameOutput,
    frame_entries,
    row_folder,
    write_frames,
)
from groundserve.results import QueryResult
from tests.media_assets.whole_file import decode_whole_file
from tests.support.reference import SET_2

CLIP = SET_2 / "rotated.mp4"


def entries_of(output: FrameOutput, name: str, ordinals: list[int]) -> list[FrameEntry]:
    """What a row selected that scored no other frame."""
    indices = np.array(ordinals)
    logits = -np.arange(len(ordinals), dtype=np.float32)
    query = QueryResult(
        query="a?",
        frame_logits=logits,
        frame_scores=np.exp(logits),
        selected_frames=indices,
        selected_seconds=indices / 25,
        spans=[],
    )
    return frame_entries(output, name, "videos/a.mp4", query, indices)


@pytest.fixture
def output(tmp_path: Path) -> FrameOutput:
    return FrameOutput(directory=str(tmp_path / "frames"), image_format="png")


def files(output: FrameOutput) -> set[str]:
    root = Path(output.directory)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_jpeg_has_its_quality_and_side(tmp_path):
    sizes = {}
    for quality in (20, None):
        output = FrameOutput(
            directory=str(tmp_path / str(quality)), quality=quality, longest_side=40
        )
        write_frames(output, str(CLIP), entries_of(output, "a", [0]), timeout_seconds=60)
        (name,) = files(output)
        assert name.endswith(".jpg")
        path = Path(output.directory, name)
        sizes[quality] = path.stat().st_size
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert max(image.size) == 40
    assert sizes[20] < sizes[None]


def test_killed_run_leaves_no_half_picture_and_the_next_completes_it(output, monkeypatch):
    entries = entries_of(output, "a", [0, 3, 5])
    written = []

    class KilledError(BaseException):
        pass

    def die(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 3:  # two for a file: its bytes, then its name
            raise KilledError  # as SIGKILL would: nothing below runs

    monkeypatch.setattr(os, "fsync", die)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(KilledError):
        write_frames(output, str(CLIP), entries, timeout_seconds=60)
    monkeypatch.undo()
    left = files(output)
    pictures = {name for name in left if name.endswith(".png")}
    assert len(pictures) == 1
    (part,) = left - pictures
    assert os.path.basename(part).startswith(".")
    for name in pictures:
        with Image.open(Path(output.directory, name)) as image:
            image.load()
    write_frames(output, str(CLIP), entries, timeout_seconds=60)
    assert files(output) == {entry.file for entry in entries}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "", ".", "-rf", "x" * 3000, "é\n\0\udcff", "con", "A b?*"]
)
def test_any_id_is_a_safe_folder(name, output):
    folder = row_folder(name)
    first, second = folder.split("/")
    assert len(first) == 2
    assert not second.startswith((".", "-"))
    assert len(second.encode()) <= 117
    assert not set(second) & set("\0\n?*\\: ")
    (entry,) = entries_of(output, name, [1])
    write_frames(output, str(CLIP), [entry], timeout_seconds=60)
    assert Path(output.directory, entry.file).is_file()
    assert entry.id == name


def test_ids_that_look_alike_have_folders_of_their_own():
    names = ["a/b", "a_b", "a b", "A_b", "a_b "]
    assert len({row_folder(name) for name in names}) == len(names)


def test_an_object_store_takes_images_too():
    output = FrameOutput(directory="memory://frames", image_format="png")
    entries = entries_of(output, "a", [0, 3])
    write_frames(output, str(CLIP), entries, timeout_seconds=60)
    store = storage.open_storage("memory://frames")
    with Image.open(BytesIO(store.read(entries[1].file))) as image:
        np.testing.assert_array_equal(np.asarray(image), decode_whole_file(CLIP)[3])
    assert output.description == "png in memory://frames"

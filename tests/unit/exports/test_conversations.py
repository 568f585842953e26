"""Messages for OpenAI-compatible servers and lists for LLaVA, read by their readers' rules."""

import json
from pathlib import Path

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.exports import ExportOptions, export
from tests.unit.exports.made import BIKES, FAILED, TALK, write_batch

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture
def scored(tmp_path):
    return write_batch(tmp_path / "scored", BIKES, FAILED, TALK)


@pytest.fixture
def frames(tmp_path):
    """A folder of images as `batch --frames` leaves it; their content is their name."""
    folder = tmp_path / "frames ü"
    folder.mkdir()
    lines = []
    for row, suffixes in ((TALK, (".jpg", ".png")), (BIKES, (".jpg", ".png"))):
        for ordinal, suffix in zip(row["selected_frames"], suffixes, strict=True):
            name = row["video"].removeprefix("videos/").split()[0].removesuffix(".mp4")
            file = f"{name}_{ordinal}{suffix}"
            (folder / file).write_text(f"{name}{ordinal}")
            lines.append(
                {"id": row["id"], "video": row["video"], "file": file, "frame_index": ordinal}
            )
    index = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "index.jsonl").write_text(index, "utf-8")
    return folder


def read_as_llava(path, image_folder):
    """Return (text pieces, images) of each conversation: each `<image>` takes the next picture.

    Facts of LLaVA-VL/LLaVA-NeXT df17966, `llava/train/train.py`: one JSON list; `image` is a name
    or a list of names in the image folder, and has precedence over `video`.
    """
    found = []
    for item in json.loads(path.read_text("utf-8")):
        names = item["image"] if isinstance(item["image"], list) else [item["image"]]
        pieces = item["conversations"][0]["value"].split("<image>")
        assert len(pieces) - 1 == len(names)
        assert [turn["from"] for turn in item["conversations"]] == ["human"]
        found.append((item["id"], pieces[-1], [(image_folder / it).read_text() for it in names]))
    return found


def test_messages_with_their_pictures_are_as_by_hand(scored, frames, tmp_path):
    out = tmp_path / "messages.jsonl"
    exported = export(scored, out, "openai", ExportOptions(frames=frames))
    assert out.read_bytes() == (GOLDENS / "openai_data.jsonl").read_bytes()
    assert (exported.num_rows, exported.failures) == (2, {"Missing": 1})


def test_a_list_for_llava_is_as_by_hand(scored, frames, tmp_path):
    out = tmp_path / "llava.json"
    export(scored, out, "llava", ExportOptions(frames=frames))
    assert out.read_bytes() == (GOLDENS / "llava.json").read_bytes()


def test_a_question_that_holds_the_mark_is_refused(frames, tmp_path):
    run = write_batch(tmp_path / "run", BIKES | {"query": "What is <image>?"})
    with pytest.raises(InvalidRequestError, match=r"row 1: the question holds <image>"):
        export(run, tmp_path / "llava.json", "llava", ExportOptions(frames=frames))
    export(run, tmp_path / "openai.jsonl", "openai", ExportOptions(frames=frames))


def test_a_frame_without_an_image_is_refused(scored, frames, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(InvalidRequestError, match=r"no image of frame 0 of videos/bikes\.mp4"):
        export(scored, out, "openai", ExportOptions(frames=frames, top_k=3))
    assert not out.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file": "notes.txt", "video": "a", "frame_index": 1}', "file must be PNG or JPEG"),
        ('{"file": "talk_30.jpg", "video": "a"}', "not an image's entry"),
    ],
)
def test_an_index_that_is_wrong_is_refused(line, message, scored, frames, tmp_path):
    (frames / "more_index.jsonl").write_text(line + "\n")
    with pytest.raises(InvalidRequestError, match=rf"more_index\.jsonl, line 1: .*{message}"):
        export(scored, tmp_path / "out.jsonl", "openai", ExportOptions(frames=frames))


@pytest.mark.parametrize("file", ["../secret.png", "{root}/secret.png", "link.png", "gone.png"])
def test_no_file_of_another_folder_is_read(file, scored, frames, tmp_path):
    (tmp_path / "secret.png").write_text("secret")
    (frames / "link.png").symlink_to(tmp_path / "secret.png")
    file = file.format(root=tmp_path)
    for row in (BIKES, TALK):
        for ordinal in row["selected_frames"]:
            entry = {"file": file, "video": row["video"], "frame_index": ordinal}
            # The index that is read first counts.
            with (frames / "a_index.jsonl").open("a") as index:
                index.write(json.dumps(entry) + "\n")
    with pytest.raises(InvalidRequestError, match=r"has no file .* of its index"):
        export(scored, tmp_path / "out.jsonl", "openai", ExportOptions(frames=frames))


def test_images_may_lie_in_folders_below(frames, tmp_path):
    """As `batch --frames` writes them, a folder a row."""
    (frames / "3f").mkdir()
    (frames / "talk_30.jpg").rename(frames / "3f" / "r1.jpg")
    entry = {"file": "3f/r1.jpg", "video": TALK["video"], "frame_index": 30}
    (frames / "index.jsonl").write_text(json.dumps(entry) + "\n")
    run = write_batch(tmp_path / "run", TALK | {"selected_frames": [30]})
    out = tmp_path / "llava.json"
    export(run, out, "llava", ExportOptions(frames=frames))
    assert read_as_llava(out, frames) == [(2, "\n" + TALK["query"], ["talk30"])]


def test_a_folder_without_an_index_is_refused(scored, tmp_path):
    with pytest.raises(InvalidRequestError, match="holds no index of frames"):
        export(scored, tmp_path / "out.jsonl", "openai", ExportOptions(frames=scored))

"""Small sets in the layouts of the published ones, with real media."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.unit.train.data.samples import write_video

# As the Hub's `datasets` library stores text, conversations and images.
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("conversations", pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))),
        ("data_source", pa.string()),
    ]
)


def jpeg(seed, *, kind="JPEG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def talk(*texts, first="human"):
    sides = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": sides[i % 2], "value": text} for i, text in enumerate(texts)]


def write_parquet(path, rows, *, schema=SCHEMA):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"data_source": path.parent.name, **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=2)


def write_json(path, records, *, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, indent=1), encoding)


def write_tar(path, files, *, links=()):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as zip_file:
        for name, content in files.items():
            zip_file.writestr(name, content)


def video_bytes(folder, *, num_frames=20):
    path = folder / "video.mp4"
    write_video(path, num_frames=num_frames)
    content = path.read_bytes()
    path.unlink()
    return content


def onevision(folder):
    """Two shards of one subset, a subset of text, and one that is a list and an archive."""
    rows = [
        {
            "id": "a/b.png",
            "image": {"bytes": jpeg(0), "path": "b.jpg"},
            "conversations": talk("<image>\nWhat?", "A cat."),
        },
        {
            "id": "a/b.png",
            "image": {"bytes": jpeg(1, kind="PNG"), "path": None},
            "conversations": talk("What?", "A dog."),
        },
        {
            "id": "gpt",
            "image": {"bytes": jpeg(2), "path": None},
            "conversations": [*talk("Hi.", first="gpt"), *talk("<image><image>\nWhat?", "Two.")],
        },
        {
            "id": "none",
            "image": {"bytes": None, "path": "gone.jpg"},
            "conversations": talk("What?", "A."),
        },
        {
            "id": "text",
            "image": {"bytes": b"no image at all", "path": None},
            "conversations": talk("What?", "A."),
        },
    ]
    write_parquet(folder / "ai2d(gpt4v)" / "train-00000-of-00002.parquet", rows)
    more = [
        {
            "id": "c",
            "image": {"bytes": jpeg(3), "path": None},
            "conversations": talk("Wo?", "Da 你好."),
        }
    ]
    write_parquet(folder / "ai2d(gpt4v)" / "train-00001-of-00002.parquet", more)
    text = [
        {"id": "m0", "image": None, "conversations": talk("Who?", "I.")},
        {"id": "m1", "image": None, "conversations": talk("<image>\nWho?", "I.")},
    ]
    write_parquet(folder / "magpie_pro(l3_80b_mt)" / "train-00000-of-00001.parquet", text)
    write_json(
        folder / "ureader_kg" / "ureader_kg_processed.json",
        [{"id": 7, "image": "docvqa/7.jpg", "conversations": talk("<image>\nRead it.", "Seven.")}],
    )
    write_tar(folder / "ureader_kg" / "ureader_kg_part1.tar.gz", {"docvqa/7.jpg": jpeg(7)})
    return folder


def llava_video(folder):
    """Two subsets; of one video there are three kinds of questions, and one video is missing."""
    names = ("0_30_s_academic_v0_1", "0_30_s_youtube_v0_1")
    for number, name in enumerate(names):
        subset, kind = folder / name, name.removesuffix("_v0_1")
        video = f"academic_source/Charades/{number}.mp4"

        def ask(text, answer, video=video, name=name):
            return {
                "id": "1",
                "conversations": talk(f"<image>\n{text}", answer),
                "data_source": name,
                "video": video,
            }

        write_json(subset / f"{kind}_mc_v0_1_qa_processed.json", [ask("Which?\nA. x\nB. y", "A.")])
        open_ended = [ask("What?", "A cat."), ask("Who?", "It.", video="academic_source/gone.mp4")]
        write_json(subset / f"{kind}_oe_v0_1_qa_processed.json", open_ended)
        write_json(subset / f"{name}_cap_processed.json", [ask("Describe it.", "A cat sits.")])
        content = video_bytes(subset, num_frames=20 + 10 * number)
        write_tar(subset / f"{name}_videos_1.tar.gz", {f"./{video}": content})
    return folder


def llava_pretrain(folder):
    records = [
        {
            "id": f"{i}",
            "image": f"0000{i}/{i}.jpg",
            "conversations": talk("Say it.\n<image>", f"{i}"),
        }
        for i in range(2)
    ]
    # Some lists begin with a byte order mark.
    write_json(folder / "blip_laion_cc_sbu_558k.json", records, encoding="utf-8-sig")
    write_json(folder / "blip_laion_cc_sbu_558k_meta.json", [])
    write_zip(folder / "images.zip", {f"0000{i}/{i}.jpg": jpeg(i) for i in range(2)})
    return folder

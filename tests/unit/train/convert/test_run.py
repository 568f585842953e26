import json
import signal
import subprocess
import sys
import tarfile
from contextlib import closing
from dataclasses import replace

import pytest

from groundserve.data_record import Media
from groundserve.errors import InvalidRequestError, MissingExtraError
from tests.cli.command import run_cli
from tests.support.reference import REPOSITORY
from tests.unit.train.convert.published import (
    jpeg,
    llava_pretrain,
    llava_video,
    onevision,
    talk,
    write_json,
    write_tar,
    write_zip,
)
from tests.unit.train.data.samples import open_reader
from tests.unit.train.runs import losses, make_config, metrics
from train.convert import convert
from train.families.videoitg.stages import STAGES
from train.files import sole_writer
from train.loop import train


@pytest.fixture
def make(tmp_path):
    """Return a set's download."""

    def make(layout):
        (tmp_path / "download").mkdir()
        return layout(tmp_path / "download")

    return make


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".parts" not in path.parts
    }


def bad_records(out):
    return [json.loads(line) for line in (out / "bad_records.jsonl").read_text().splitlines()]


def test_onevision(make, tmp_path):
    out = tmp_path / "out"
    report = convert("llava-onevision", make(onevision), out)
    shard = "ai2d(gpt4v)/train-00000-of-00002"
    records = json.loads(report.records.read_text())
    assert [(record["id"], record.get("image")) for record in records] == [
        ("a/b.png", f"{shard}/000000.jpeg"),
        ("a/b.png", f"{shard}/000001.png"),
        ("gpt", f"{shard}/000002.jpeg"),
        ("c", "ai2d(gpt4v)/train-00001-of-00002/000000.jpeg"),
        ("m0", None),
        (7, "ureader_kg/docvqa/7.jpg"),
    ]
    assert records[0].keys() == {"id", "image", "conversations"}
    assert records[3]["conversations"] == talk("Wo?", "Da 你好.")
    # The published bytes, not encoded anew.
    media = [(report.media_root / r["image"]).read_bytes() for r in records if "image" in r]
    assert media == [jpeg(0), jpeg(1, kind="PNG"), jpeg(2), jpeg(3), jpeg(7)]
    assert (report.num_records, report.num_images, report.num_videos) == (6, 5, 0)
    assert report.num_bad == sum(report.bad_rules.values()) == 3
    assert [(bad["record"], bad["rule"][:40]) for bad in bad_records(out)] == [
        ("none", "image must have its bytes inside the fil"),
        ("text", "image must be one of BMP, GIF, JPEG, PNG"),
        ("m1", "conversations may have the placeholder <"),
    ]
    assert bad_records(out)[0]["file"] == f"{shard}.parquet"


def test_llava_video(make, tmp_path):
    """Multiple choice and open-ended, as in the reference's third stage; no captions."""
    report = convert("llava-video", make(llava_video), tmp_path / "out")
    records = json.loads(report.records.read_text())
    names = ("0_30_s_academic_v0_1", "0_30_s_youtube_v0_1")
    videos = [f"{name}/academic_source/Charades/{i}.mp4" for i, name in enumerate(names)]
    assert [record["video"] for record in records] == [videos[0]] * 2 + [videos[1]] * 2
    assert (report.num_videos, report.num_bad) == (4, 2)
    assert report.bad_rules == {"video must be in an archive, or unpacked, beside the file": 2}
    assert bad_records(tmp_path / "out")[0] == {
        "file": f"{names[0]}/0_30_s_academic_oe_v0_1_qa_processed.json",
        "record": "1",
        "rule": "video must be in an archive, or unpacked, beside the file, "
        f"got '{names[0]}/academic_source/gone.mp4'",
    }


def test_videos_that_are_unpacked_already_are_linked_to(make, tmp_path):
    download = make(llava_video)
    for archive in list(download.rglob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            # As its documentation has it for versions that know no filter (3.11.2).
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(archive.parent)
        archive.unlink()
    report = convert("llava-video", download, tmp_path / "out")
    assert (report.num_videos, report.num_bad) == (4, 2)
    links = [path for path in report.media_root.rglob("*.mp4") if path.is_symlink()]
    assert len(links) == 2
    assert all(link.resolve().is_relative_to(download.resolve()) for link in links)
    video = Media("video", json.loads(report.records.read_text())[0]["video"])
    reader = open_reader(report.media_root, max_frames=8)
    with closing(reader):  # its 20 frames are two seconds
        assert len(reader.read(video, sample_fps=1.0)) == 2


@pytest.mark.parametrize(
    ("name", "layout", "template", "num_items"),
    [
        ("llava-pretrain", llava_pretrain, "plain", 2),
        ("llava-onevision", onevision, "chatml", 6),
        ("llava-video", llava_video, "chatml", 4),
    ],
)
def test_a_converted_set_trains_its_stage(make, tmp_path, name, layout, template, num_items):
    report = convert(name, make(layout), tmp_path / "out")
    stage = {"llava-pretrain": "projector", "llava-onevision": "images", "llava-video": "video"}
    config = make_config(tmp_path / "run", stage=stage[name], auxiliary_weight=0.0, max_steps=None)
    data = replace(
        config.data,
        records=report.records,
        media_root=report.media_root,
        template=template,
        max_frames=8,
    )
    paths = {"init": tmp_path, "records": tmp_path, "media_root": tmp_path, "out": tmp_path}
    assert STAGES[stage[name]](**paths).data.template == template
    train(replace(config, data=data))
    lines = metrics(config.out)
    assert len(losses(lines)) == num_items
    assert all(loss > 0 for loss in losses(lines))
    assert lines[-1]["num_unreadable"] == 0


class StoppedError(Exception):
    """Power failure."""


@pytest.mark.parametrize("layout", [onevision, llava_video])
@pytest.mark.parametrize("last", [0, 3])
def test_it_goes_on_with_the_file_it_had_come_to(make, tmp_path, layout, last):
    name = {onevision: "llava-onevision", llava_video: "llava-video"}[layout]
    download = make(layout)
    names = []
    expected = convert(name, download, tmp_path / "whole", on_file=names.append)
    assert len(names) > last

    def stop(file):
        if file == names[last]:
            raise StoppedError

    with pytest.raises(StoppedError):
        convert(name, download, tmp_path / "out", on_file=stop)
    left = []
    report = convert(name, download, tmp_path / "out", on_file=left.append)
    assert left == names[last:]
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert report.bad_rules == expected.bad_rules
    assert convert(name, download, tmp_path / "out", on_file=left.append) == report
    assert left == names[last:]


KILLED = """
import os, signal, sys
from pathlib import Path
from train.convert import run

convert_json = run.convert_json

def killed(*arguments, **more):
    for number, outcome in enumerate(convert_json(*arguments, **more)):
        if number == 5000:
            os.kill(os.getpid(), signal.SIGKILL)
        yield outcome

run.convert_json = killed
run.convert("llava-video", *map(Path, sys.argv[1:]))
"""


def test_a_killed_process_leaves_no_half_a_file(tmp_path):
    """Killed for real amid a file, which the next one reads anew."""
    download, out = tmp_path / "download", tmp_path / "out"
    texts = [{"id": i, "conversations": talk("Who?", "I.")} for i in range(6000)]
    write_json(download / "a" / "a_oe.json", texts)
    command = [sys.executable, "-c", KILLED, str(download), str(out)]
    assert subprocess.run(command, cwd=REPOSITORY).returncode == -signal.SIGKILL
    (partial,) = (out / ".parts").glob("*.partial")
    assert partial.stat().st_size
    assert not (out / "records.json").exists()
    report = convert("llava-video", download, out)
    assert (report.num_records, report.num_bad) == (6000, 0)
    assert not list(out.rglob("*.partial"))


def test_a_damaged_archive_is_named_and_taken_up_again(make, tmp_path):
    download = make(llava_video)
    (archive, _) = sorted(download.rglob("*.tar.gz"))
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidRequestError, match=r"cannot unpack .*videos_1\.tar\.gz: .* again"):
        convert("llava-video", download, tmp_path / "out")
    archive.write_bytes(content)
    files = []
    report = convert("llava-video", download, tmp_path / "out", on_file=files.append)
    assert report.num_videos == 4
    assert all(file.endswith(".tar.gz") for file in files)


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
def test_members_that_lead_elsewhere_are_left_out(tmp_path, suffix):
    download = tmp_path / "download"
    subset = download / "0_30_s_nextqa"
    record = {"id": "1", "video": "../../evil.mp4", "conversations": talk("Who?", "I.")}
    inside = {"id": "2", "conversations": talk("Who?", "I.")}
    write_json(subset / "0_30_s_nextqa_oe_qa_processed.json", [record, inside, "text"])
    files = {"../../evil.mp4": b"1", "/evil.mp4": b"2", "good.mp4": b"3"}
    if suffix == "zip":
        write_zip(subset / "videos.zip", files)
    else:
        write_tar(subset / "videos.tar.gz", files, links=["link.mp4"])
    out = tmp_path / "deep" / "out"
    report = convert("llava-video", download, out)
    assert sorted(bad["record"] for bad in bad_records(out)) == sorted(
        ["1", "#2", "../../evil.mp4", "/evil.mp4"] + ["link.mp4"] * (suffix != "zip")
    )
    assert report.num_records == 1
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.mp4")}
    assert found == {"deep/out/media/0_30_s_nextqa/good.mp4"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b'[{"id": 1}, {"id"', "must be a JSON list in UTF-8", id="cut"),
        pytest.param(b'{"item": 1}', "be a JSON list, it begins with start_map", id="object"),
        pytest.param(b"[]", "no record can be used; most often: there is none", id="empty"),
        pytest.param(b"[3]", "most often: a record must be an object", id="all_bad"),
    ],
)
def test_a_record_file_that_is_wrong_as_a_whole(tmp_path, content, message):
    path = tmp_path / "download" / "a" / "a_oe.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=message):
        convert("llava-video", tmp_path / "download", tmp_path / "out")


def test_a_folder_has_one_conversion(make, tmp_path):
    convert("llava-pretrain", make(llava_pretrain), tmp_path / "out")
    with pytest.raises(InvalidRequestError, match="it holds that of llava-pretrain from"):
        convert("llava-video", llava_video(tmp_path / "other"), tmp_path / "out")


def test_a_result_inside_the_download_is_refused(make, tmp_path):
    """`--include '*.json'` would take the result for another record file."""
    download = make(llava_video)
    (tmp_path / "link").symlink_to(download)
    for out in (download, download / "out", tmp_path / "link" / "out"):
        with pytest.raises(InvalidRequestError, match="OUT must not be SOURCE or lie in it"):
            convert("llava-video", download, out)


def test_two_at_once_are_one(make, tmp_path):
    held = pytest.raises(InvalidRequestError, match=r"another process writes to .*out; wait")
    with sole_writer(tmp_path / "out"), held:
        convert("llava-video", make(llava_video), tmp_path / "out")


def test_pyarrow_is_needed_for_parquet_alone(make, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    download = make(onevision)
    with pytest.raises(MissingExtraError, match=r"pyarrow .* 'groundserve\[train\]'"):
        convert("llava-onevision", download, tmp_path / "out")
    report = convert("llava-onevision", download, tmp_path / "raw", include=["ureader*"])
    assert report.num_records == 1


def test_the_command(make, tmp_path):
    paths = make(llava_video), tmp_path / "out"

    def run(*more):
        return run_cli("train", "convert", "llava-video", *paths, *more)

    said = run()
    assert said.code == 0, said.stderr
    lines = [line.split() for line in said.stdout.splitlines()]
    assert ["4", "about", "a", "video"] in lines
    assert ["2", "left", "out"] in lines
    assert str(tmp_path / "out" / "records.json") in said.stdout
    value = json.loads(run("--json").stdout)
    assert value["num_videos"] == 4
    assert value["media_root"] == str(tmp_path / "out" / "media")
    wrong = run("--include", "*.nothing")
    assert wrong.code == 2
    assert "no file that matches *.nothing" in wrong.stderr
    assert "patterns of JSON or Parquet files in it" in wrong.stderr.replace("\n", " ")

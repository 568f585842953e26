"""Frames that were decoded once: the same for every reader, and never a torn file's."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from groundserve.errors import InvalidRequestError
from tests.support.reference import REPOSITORY
from tests.unit.train.data.cached_frames import VIDEO, files, read, write_textured
from tests.unit.train.data.samples import open_reader, question, source_frames
from tests.unit.train.runs import assert_same_weights, make_config, metrics
from train.loop import train


@pytest.fixture
def media(tmp_path):
    """A folder with one video of 30 frames at 10 a second."""
    folder = tmp_path / "media"
    folder.mkdir()
    write_textured(folder / "a.mp4", num_frames=30)
    return folder


def test_the_second_reading_decodes_nothing_and_gives_the_same(media, tmp_path):
    cache = tmp_path / "cache"
    first, num_decoders = read(media, cache)
    assert num_decoders == 1
    (file,) = files(cache)
    assert file.parent.name == file.name[:2]
    second, num_decoders = read(media, cache)
    assert num_decoders == 0
    np.testing.assert_array_equal(second, first)
    assert source_frames(second) == [0, 10, 20]
    assert list((cache / ".partial").iterdir()) == []


def test_another_rate_or_content_is_another_file(media, tmp_path):
    cache = tmp_path / "cache"
    read(media, cache)
    read(media, cache, sample_fps=2.0)
    assert len(files(cache)) == 2
    write_textured(media / "a.mp4", num_frames=50)
    assert source_frames(read(media, cache)[0]) == [0, 10, 20, 30 % 32, 40 % 32]
    assert len(files(cache)) == 3


def test_a_thinned_video_is_not_taken_for_another_ceiling(media, tmp_path):
    cache = tmp_path / "cache"
    assert source_frames(read(media, cache, max_frames=2)[0]) == [0, 20]
    frames, num_decoders = read(media, cache, max_frames=3)
    assert (source_frames(frames), num_decoders) == ([0, 10, 20], 1)
    # Three are all there are, whatever more a stage would take.
    assert read(media, cache, max_frames=1024)[1] == 0


def damage(file, kind):
    data = file.read_bytes()
    if kind == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif kind == "one_bit":
        changed = bytearray(data)
        changed[-40] ^= 1
        file.write_bytes(bytes(changed))
    else:
        tensors = load_file(file)
        save_file({**tensors, "frame_indices": tensors["frame_indices"] + 1}, file)


@pytest.mark.parametrize("kind", ["cut", "one_bit", "indices"])
def test_a_torn_file_is_written_anew(media, tmp_path, caplog, kind):
    cache = tmp_path / "cache"
    expected, _ = read(media, cache)
    (file,) = files(cache)
    whole = file.read_bytes()
    damage(file, kind)
    with caplog.at_level(logging.WARNING):
        found, num_decoders = read(media, cache)
    assert num_decoders == 1
    np.testing.assert_array_equal(found, expected)
    assert file.read_bytes() == whole
    assert "is damaged, its video is decoded again" in caplog.text


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.train.data.cached_frames import read

os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
read(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_kill_amid_writing_leaves_no_file_and_later_no_rest(media, tmp_path):
    cache = tmp_path / "cache"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, media, cache], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert files(cache) == []
    (rest,) = (cache / ".partial").iterdir()
    read(media, cache)
    assert rest.exists()  # it could be another process's that is still at it
    os.utime(rest, (time.time() - 7200,) * 2)
    assert read(media, cache)[1] == 0
    assert not rest.exists()


def test_a_disk_that_takes_no_more_ends_nothing(media, tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    expected, _ = read(media, tmp_path / "other")
    monkeypatch.setattr("train.data.frame_cache.tempfile.mkstemp", full)
    cache = tmp_path / "cache"
    with closing(open_reader(media, frame_cache=cache)) as reader:
        for _ in range(2):
            np.testing.assert_array_equal(reader.read(VIDEO, sample_fps=1.0), expected)
    assert files(cache) == []
    assert caplog.text.count("No space left on device; decoding without it") == 1


def test_a_folder_that_cannot_be_used_is_refused(media, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequestError, match=r"cannot use frame_cache .*file"):
        read(media, tmp_path / "file")


def test_a_run_is_the_same_with_a_full_and_with_an_empty_cache(tmp_path, media):
    (media / "records.json").write_text(json.dumps([question("a.mp4", f"{i}?") for i in range(3)]))

    def start(name, cache):
        config = make_config(tmp_path / name, max_steps=6, auxiliary_weight=0.0)
        data = replace(
            config.data, records=media / "records.json", media_root=media, frame_cache=cache
        )
        train(replace(config, data=data))
        return config.out

    empty = start("empty", tmp_path / "cache")
    full = start("full", tmp_path / "cache")
    assert metrics(full) == metrics(empty)
    assert_same_weights(full, empty)
    assert len(files(tmp_path / "cache")) == 1
    without = start("without", None)
    assert metrics(without) != metrics(empty)  # JPEG is another input, which resume must know

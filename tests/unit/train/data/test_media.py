import warnings
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from groundserve.data_record import Media
from groundserve.errors import MediaError
from groundserve.media._resize import resize
from tests.unit.train.data.samples import IMAGE_SIZE, open_reader, source_frames
from train.data.reader import read_image


@pytest.fixture(scope="module")
def reader(media_root):
    with closing(open_reader(media_root)) as reader:
        yield reader


def test_a_video_is_sampled_at_the_rate_and_resized(reader):
    frames = reader.read(Media("video", "a.mp4"), sample_fps=1.0)
    assert frames.shape == (3, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert frames.dtype == np.uint8
    assert source_frames(frames) == [0, 10, 20]
    faster = reader.read(Media("video", "a.mp4"), sample_fps=2.0)
    assert source_frames(faster) == list(range(0, 30, 5))


def test_more_candidates_than_max_frames_are_thinned_by_rule_a(media_root):
    # Rule A keeps the last candidate; rule B would give [0, 10].
    with closing(open_reader(media_root, max_frames=2)) as reader:
        frames = reader.read(Media("video", "a.mp4"), sample_fps=1.0)
    assert source_frames(frames) == [0, 20]


def test_an_image_is_resized_as_a_frame_is(reader, media_root):
    pixels = np.asarray(Image.open(media_root / "a.png"))
    frames = reader.read(Media("image", "a.png"), sample_fps=1.0)
    np.testing.assert_array_equal(frames, resize(pixels, IMAGE_SIZE)[np.newaxis])


@pytest.mark.parametrize("mode", ["P", "CMYK"])
def test_an_image_of_any_mode_becomes_rgb(tmp_path, media_root, mode):
    path = tmp_path / "image.tiff"
    Image.open(media_root / "a.png").convert(mode).save(path)
    assert read_image(path, image_size=8).shape == (8, 8, 3)


def test_no_media_is_one_black_frame(reader):
    frames = reader.read(None, sample_fps=1.0)
    assert frames.shape == (1, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert not frames.any()


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (Media("video", "missing.mp4"), "cannot open the video .*missing.mp4"),
        (Media("video", "damaged.mp4"), "it is damaged, or not one of"),
        (Media("video", "."), "not a regular file"),
        (Media("image", "missing.png"), "cannot read the image .*missing.png"),
        (Media("image", "damaged.png"), "cannot read the image .*damaged.png"),
    ],
)
def test_media_that_cannot_be_read(reader, media, reason):
    with pytest.raises(MediaError, match=reason):
        reader.read(media, sample_fps=1.0)


def test_an_image_too_large_for_memory(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.new("L", (64, 64)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(MediaError, match="exceeds limit"):
            read_image(path, image_size=4)


def test_an_image_in_a_format_that_is_not_listed_is_not_opened(tmp_path):
    path = tmp_path / "image.eps"
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(MediaError, match="cannot identify image file"):
        read_image(path, image_size=4)

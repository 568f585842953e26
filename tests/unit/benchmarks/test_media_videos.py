"""The videos that benchmarks make are what their names say."""

import av
import pytest

from benchmarks import _media
from benchmarks._media import make_video

TINY = {"height": 36, "gop": 12}


def key_frames(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        size = (stream.codec_context.width, stream.codec_context.height)
        return len(frames), [i for i, frame in enumerate(frames) if frame.key_frame], size


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9"])
def test_key_interval_and_size_are_those_asked_for(codec, tmp_path):
    path = make_video(tmp_path, codec=codec, seconds=2, **TINY)
    assert path.name.startswith(f"{codec}_36p_gop12_2s.")
    assert key_frames(path) == (60, [0, 12, 24, 36, 48], (64, 36))


def test_a_long_video_repeats_whole_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(_media, "_ENCODED_SECONDS", 2)
    monkeypatch.setattr(_media, "_PIECE_SECONDS", 2)
    path = make_video(tmp_path, codec="h264", seconds=6, **TINY)
    num_frames, keys, _ = key_frames(path)
    assert (num_frames, keys) == (180, list(range(0, 180, 12)))
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert (frames[0] == frames[60]).all()
    assert (frames[59] == frames[179]).all()
    assert not (frames[0] == frames[1]).all()


def test_an_existing_video_is_kept(tmp_path):
    path = tmp_path / "h264_36p_gop12_1s.mp4"
    path.write_bytes(b"here already")
    assert make_video(tmp_path, codec="h264", seconds=1, **TINY) == path
    assert path.read_bytes() == b"here already"


def test_pieces_that_would_break_a_group_are_refused(tmp_path):
    with pytest.raises(ValueError, match="its gop divide 3000, got 600 seconds and a gop of 7"):
        make_video(tmp_path, codec="h264", height=36, gop=7, seconds=600)


def test_other_key_frames_than_asked_for_are_an_error(tmp_path, monkeypatch):
    other = [word.replace("keyint={gop}", "keyint=7") for word in _media._ENCODERS["h264"]]
    other = [word.replace("min-keyint={gop}", "min-keyint=4") for word in other]
    monkeypatch.setitem(_media._ENCODERS, "h264", tuple(other))
    with pytest.raises(RuntimeError, match=r"key frame each 12, got 30 with key frames at \[0, 7"):
        make_video(tmp_path, codec="h264", seconds=1, **TINY)
    assert list(tmp_path.iterdir()) == []

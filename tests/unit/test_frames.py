from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from groundserve import Client, frames
from groundserve.errors import InvalidRequestError, MediaError, UnsupportedError
from groundserve.frames import iterate_frames, read_frames
from groundserve.limits import Limits
from groundserve.runtime.deadline import Deadline
from tests.media_assets.whole_file import decode_whole_file
from tests.support.reference import SET_2

ROTATED = SET_2 / "rotated.mp4"
VFR = SET_2 / "vfr.mp4"


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 frames of 96 x 64, then 25 of 64 x 48."""
    folder = tmp_path_factory.mktemp("two_sizes")
    parts = []
    for size, offset in (("96x64", "0"), ("64x48", "2")):
        part = folder / f"{size}.ts"
        pattern = f"testsrc2=size={size}:rate=25:duration=1"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-f", "lavfi"]
        command += ["-i", pattern, "-c:v", "libx264", "-preset", "veryfast"]
        subprocess.run([*command, "-output_ts_offset", offset, str(part)], check=True)
        parts.append(part.read_bytes())
    path = folder / "two_sizes.ts"
    path.write_bytes(b"".join(parts))
    return path


def iterate(video: Path, frame_indices: list[int], **options: int) -> list[np.ndarray]:
    deadline = Deadline.after(60)
    return list(iterate_frames(video, frame_indices, limits=Limits(), deadline=deadline, **options))


@pytest.mark.parametrize("name", ["bikes", "rotated", "vfr"])
def test_frames_are_those_of_a_full_decode(name: str, clips: dict[str, Path]) -> None:
    whole = decode_whole_file(clips[name])
    frame_indices = np.unique(np.linspace(0, len(whole) - 1, 9).astype(np.int64))
    with Client() as client:  # no server: none is asked
        got = client.frames(clips[name], frame_indices)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, [whole[i] for i in frame_indices])


def test_bytes_lists_and_other_integers_give_the_same() -> None:
    expected = read_frames(VFR, np.array([3, 50]))
    np.testing.assert_array_equal(read_frames(VFR.read_bytes(), [3, 50]), expected)
    np.testing.assert_array_equal(read_frames(str(VFR), np.array([3, 50], np.uint8)), expected)


@pytest.mark.parametrize("video", [ROTATED, VFR], ids=["portrait", "landscape"])
def test_longest_side_shrinks_as_pillow_does(video: Path) -> None:
    (full,) = read_frames(video, [7])
    (small,) = read_frames(video, [7], longest_side=88)
    size = (72, 88) if video == ROTATED else (88, 72)
    expected = Image.fromarray(full).resize(size, Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(small, np.asarray(expected))


@pytest.mark.parametrize("longest_side", [176, 10**9])
def test_no_frame_is_enlarged(longest_side: int) -> None:
    got = read_frames(VFR, [7], longest_side=longest_side)
    np.testing.assert_array_equal(got, read_frames(VFR, [7]))


@pytest.mark.parametrize(
    ("frame_indices", "message"),
    [
        ([], r"got float64 with shape \(0,\)"),
        ([1.0], "must be int64 .* got float64"),
        ([5, 5], "strictly increasing; numpy.unique"),
        ([0, 100], "must be 0 to 99, got 0 to 100"),
        (range(1025), r"at most 1024 \(max_num_frames\), got 1025; ask for fewer at a time"),
    ],
)
def test_other_ordinals_are_refused(frame_indices: object, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        read_frames(VFR, frame_indices)


@pytest.mark.parametrize("longest_side", [0, True, "448"])
def test_other_longest_sides_are_refused(longest_side: object) -> None:
    with pytest.raises(InvalidRequestError, match=f"longest_side must be .* got {longest_side!r}"):
        read_frames(VFR, [0], longest_side=longest_side)


@pytest.mark.parametrize(
    ("video", "error", "message"),
    [
        ("none.mp4", MediaError, "cannot open the video 'none.mp4': No such file"),
        (Path(__file__).parent, MediaError, "is not a regular file"),
        (__file__, MediaError, "cannot be read"),
        (b"", MediaError, "empty"),
        (None, InvalidRequestError, "video must be a path .str or os.PathLike. or bytes, got None"),
        (
            "https://host/v.mp4?key=secret",
            UnsupportedError,
            "got the URI .https://host/v.mp4.: nothing is fetched",
        ),
        ("file:/v.mp4", InvalidRequestError, "give its path, or, for a file that the server"),
    ],
)
def test_other_videos_are_refused(video: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_frames(video, [0])


def test_an_array_too_large_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    frame_bytes = 176 * 144 * 3
    monkeypatch.setattr(frames, "MAX_ARRAY_BYTES", 3 * frame_bytes)
    assert len(read_frames(VFR, range(3))) == 3
    message = (
        f"4 frames of 176 x 144 pixels take {4 * frame_bytes} bytes, more than {3 * frame_bytes} "
        "in one array; give a longest_side, or ask for at most 3 at a time"
    )
    with pytest.raises(InvalidRequestError, match=message):
        read_frames(VFR, range(4))
    assert len(read_frames(VFR, range(4), longest_side=100)) == 4


def test_frames_of_two_sizes_come_one_by_one_and_not_as_an_array(two_sizes: Path) -> None:
    wanted = [0, 24, 25, 49]
    whole = decode_whole_file(two_sizes)
    for frame, ordinal in zip(iterate(two_sizes, wanted), wanted, strict=True):
        np.testing.assert_array_equal(frame, whole[ordinal])
    with pytest.raises(MediaError, match="frame 25 is 64 x 48 pixels, frame 0 96 x 64 pixels"):
        read_frames(two_sizes, wanted)
    assert read_frames(two_sizes, [25, 49]).shape == (2, 48, 64, 3)


def test_a_frame_that_does_not_decode_is_named(tmp_path: Path, clips: dict[str, Path]) -> None:
    data = bytearray(clips["bikes"].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    with pytest.raises(MediaError, match=r"^frame \d+ of the video: "):
        read_frames(bytes(data), range(250))

import pytest

from groundserve.data_record import FrameTargets, Media, Message, Record
from train.data.items import Item, group_records, guess_num_frames
from train.data.records import MalformedRecord

BAD = MalformedRecord(name="bad", path=None, reason="")


def record(name, media):
    return Record(name=name, media=media, messages=(Message("user", ""),))


def records(spelling):
    """One letter a record: its video, "-" for text alone, "!" for a malformed one."""
    return [
        BAD if letter == "!" else record(str(i), None if letter == "-" else Media("video", letter))
        for i, letter in enumerate(spelling)
    ]


def names(items):
    return [[r.name for r in item.records] if isinstance(item, Item) else "!" for item in items]


def test_every_record_is_an_item_of_its_own_by_default():
    assert names(group_records(records("aab!-"), questions_per_video=1)) == [
        ["0"],
        ["1"],
        ["2"],
        "!",
        ["4"],
    ]


def test_neighbours_of_one_video_are_chunked_in_file_order():
    grouped = group_records(records("aaabba"), questions_per_video=2)
    assert names(grouped) == [["0", "1"], ["2"], ["3", "4"], ["5"]]
    assert [item.media.path for item in grouped] == ["a", "a", "b", "a"]


def test_texts_and_malformed_records_stay_alone():
    grouped = group_records(records("--!!a-"), questions_per_video=4)
    assert names(grouped) == [["0"], ["1"], "!", "!", ["4"], ["5"]]


def test_a_video_and_an_image_of_one_name_are_two_media():
    pair = [record("0", Media("video", "a")), record("1", Media("image", "a"))]
    assert names(group_records(pair, questions_per_video=2)) == [["0"], ["1"]]


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        pytest.param("LLaVA-Video-178K/30_60_s_youtube/a.mp4", {}, 45, id="folder_in_seconds"),
        pytest.param("LLaVA-Video-178K/1_2_m_academic/b/a.mp4", {}, 90, id="folder_in_minutes"),
        pytest.param("2_3_m_nextqa/a.mp4", {"duration": 70.4}, 70, id="what_the_record_says"),
        pytest.param("30_60_s_a/a.mp4", {"positive_frames": (3, 51)}, 52, id="last_relevant_frame"),
        pytest.param("v2_3_m_a/a.mp4", {}, 100, id="unknown"),
        pytest.param(f"1_{'9' * 400}_m_a/a.mp4", {}, 100, id="no_seconds"),
        pytest.param("a.mp4", {"duration": 900.0}, 512, id="ceiling"),
        pytest.param(
            "a.mp4", {"frame_targets": FrameTargets(num=1, frames=((),) * 7)}, 7, id="known"
        ),
    ],
)
def test_frames_are_guessed_from_the_record(path, fields, expected):
    media = Media("video", path)
    one = Record(name="", media=media, messages=(Message("user", ""),), **fields)
    item = Item(media=media, records=(one,))
    assert guess_num_frames(item, sample_fps=1.0, max_frames=512) == expected


@pytest.mark.parametrize("media", [None, Media("image", "2_3_m_a/a.png")])
def test_an_image_is_one_frame(media):
    item = Item(media=media, records=(record("", media),))
    assert guess_num_frames(item, sample_fps=8.0, max_frames=512) == 1


def test_the_rate_counts():
    item = Item(media=Media("video", "30_60_s_a/a"), records=(record("", None),))
    assert guess_num_frames(item, sample_fps=0.5, max_frames=512) == 22  # 22.5, to even

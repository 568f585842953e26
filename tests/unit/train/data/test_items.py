from groundserve.data_record import Media, Message, Record
from train.data.items import Item, group_records
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


def test_neighbours_of_one_video_are_chunked_in_file_order():
    grouped = group_records(records("aaabba"), questions_per_video=2)
    assert names(grouped) == [["0", "1"], ["2"], ["3", "4"], ["5"]]
    assert [item.media.path for item in grouped] == ["a", "a", "b", "a"]


def test_texts_and_malformed_records_stay_alone():
    grouped = group_records(records("--!!a-"), questions_per_video=4)
    assert names(grouped) == [["0"], ["1"], "!", "!", ["4"], ["5"]]

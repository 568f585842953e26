import json

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.annotations import find_videos, read_annotations
from tests.unit.evaluation.activitynet.recorded import ANNOTATION

GOOD = {"duration": 10, "timestamps": [[0, 4.5], [9, 8]], "sentences": ["One.", " two"]}


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def test_published_form():
    annotations = read_annotations(ANNOTATION)
    assert list(annotations) == ["clip_a", "clip_b", "clip_c", "clip_unused"]
    one = annotations["clip_b"]
    assert one.duration_seconds == 17.56
    assert one.windows == ((0, 5), (5, 12.2))
    assert one.sentences[0] == "A rabbit looks out of its house."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param([], "must be one JSON object", id="a_list"),
        pytest.param('{"v": 1, "v": 2}', "each key once", id="a_video_twice"),
        pytest.param({"v": {"duration": 1}}, "video v: sentences is missing", id="no_sentences"),
        pytest.param({"v": {**GOOD, "duration": 0}}, "video v: duration must be", id="no_duration"),
        pytest.param({"v": {**GOOD, "timestamps": []}}, "at least one", id="no_event"),
        pytest.param({"v": {**GOOD, "timestamps": [[0, 1]]}}, "got 1 and 2", id="other_lengths"),
    ],
)
def test_malformed_annotations_are_refused(tmp_path, value, message):
    with pytest.raises(InvalidRequestError, match=message):
        read_annotations(write(tmp_path / "a.json", value))


def test_videos_that_are_there_are_found_in_the_references_order(tmp_path):
    for name in ("a.mp4", "a.mkv", "b.mp4", "c.avi", "e.mkv", "e.webm"):
        (tmp_path / name).touch()
    (tmp_path / "b.webm").mkdir()
    assert find_videos(["a", "b", "c", "d", "e"], tmp_path) == {
        "a": tmp_path / "a.mkv",
        "b": tmp_path / "b.mp4",
        "e": tmp_path / "e.webm",
    }

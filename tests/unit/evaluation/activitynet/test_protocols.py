import json
import random

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.annotations import Annotation, read_annotations
from groundserve.evaluation.activitynet.answer_log import read_answers
from groundserve.evaluation.activitynet.answers import Grounding, event_of
from groundserve.evaluation.activitynet.captions import TIOU_THRESHOLDS, make_caption_report
from groundserve.evaluation.activitynet.moments import (
    PROTOCOLS,
    get_protocol,
    make_grounding_report,
)
from tests.unit.evaluation.activitynet.told import Alike

MOMENTS = [
    {"image_id": "a.mp4", "caption": "A dog runs.", "timestamp": [0.0, 31.0], "id": 4},
    {"image_id": "a.mp4", "caption": "A dog runs.", "timestamp": [50.0, 60.0], "id": 5},
    {"image_id": "b.mp4", "caption": "it sleeps", "timestamp": [1.0, 2.0], "id": 6},
]
EVENTS = [
    {
        "image_id": "videos/a.mp4",
        "duration": 40.0,
        "segments": [[0, 10], [10, 30]],
        "pure_cap": "cut the bread. fry it",
        "caption": "unused",
        "id": 1,
    },
    {"image_id": "b.mp4", "duration": 9, "segments": [[0, 4]], "caption": "wash it. ok", "id": 2},
]


def dump(path, value):
    path.write_text(json.dumps(value), "utf-8")
    return path


@pytest.fixture
def moments(tmp_path):
    return read_annotations(dump(tmp_path / "m.json", {"annotations": MOMENTS}))


@pytest.fixture
def events(tmp_path):
    return read_annotations(dump(tmp_path / "e.json", {"annotations": EVENTS}))


def test_annotations_of_vtgllm(moments, events):
    assert moments["a"] == Annotation(
        duration_seconds=60.0,  # no entry tells one: the latest end
        windows=((0.0, 31.0), (50.0, 60.0)),
        sentences=("A dog runs.", "A dog runs."),
        ids=("4", "5"),
    )
    assert events["a"].sentences == ("cut the bread.", "fry it.")
    assert (events["a"].duration_seconds, events["a"].windows) == (40.0, ((0, 10), (10, 30)))
    assert events["b"].sentences == ("wash it.",)  # the rest is too short to be a sentence


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "annotation 1: must be an object with a text image_id"),
        ({"image_id": "c.mp4", "caption": "x"}, "timestamp, must be"),
        ({"image_id": "c.mp4", "caption": "x", "segments": [[1]]}, "must be .start, end"),
        (
            {"image_id": "c.mp4", "caption": "long one. two", "segments": [[0, 1], [1, 2]]},
            "video c: timestamps and sentences must be as many, got 2 and 1",
        ),
    ],
)
def test_wrong_annotations(tmp_path, entry, message):
    path = dump(tmp_path / "e.json", {"annotations": [EVENTS[0], entry]})
    with pytest.raises(InvalidRequestError, match=message):
        read_annotations(path)


def raw(video, text, **others):
    return {"vname": f"{video}.mp4", "generated_cap": text, "prompt": "p", **others}


def test_moments_of_vtgllm(tmp_path, moments):
    generated = dump(
        tmp_path / "raw.json",
        [
            raw("a", "0.0 - 15.5 seconds.", query="A dog runs", id=4),
            raw("a", "60.0 - 50.0 seconds.", query="A dog runs", id=5),
            raw("b", "never", query="it sleeps", id=6),
        ],
    )
    read = dump(
        tmp_path / "fmt.json",
        {
            "4": {"timestamp": [[0.0, 15.5]], "query": "A dog runs", "vid": "a.mp4"},
            "5": {"timestamp": [[50.0, 60.0]], "query": "A dog runs", "vid": "a.mp4"},
            "6": {"timestamp": [], "query": "it sleeps", "vid": "b.mp4"},
        },
    )
    for path in (generated, read):
        told = read_answers(path, moments, task="grounding").groundings
        assert [(one.video, one.number) for one in told] == [("a", 0), ("a", 1), ("b", 0)]
        assert [one.event and one.event.seconds for one in told] == [(0, 15.5), (50, 60), None]
        report = make_grounding_report(told, moments, protocol=PROTOCOLS["vtgllm"])
        figures = {name: estimate.value for name, estimate in report.figures.items()}
        # IoUs of 1/2, 1 and 0, none of which rounding has touched.
        assert figures == {
            "miou": 0.5,
            "r1_at_03": pytest.approx(2 / 3),
            "r1_at_05": pytest.approx(2 / 3),
            "r1_at_07": pytest.approx(1 / 3),
        }
        assert report.num_unread == 1
    with pytest.raises(InvalidRequestError, match="no answer of the task captioning"):
        read_answers(generated, moments, task="captioning")


@pytest.mark.parametrize(
    ("name", "miou", "at_half"), [("vtimellm", 0.5, 1.0), ("vtgllm", 0.496, 0.0)]
)
def test_one_reference_rounds_before_it_compares(name, miou, at_half):
    annotations = {
        "v": Annotation(duration_seconds=1000.0, windows=((0, 1000),), sentences=("A dog.",))
    }
    grounding = Grounding(video="v", number=0, event=event_of((0.0, 496.0), 1000.0))
    report = make_grounding_report([grounding], annotations, protocol=get_protocol(name))
    assert report.figures["miou"].value == miou
    assert report.figures["r1_at_05"].value == at_half


@pytest.mark.parametrize("seed", range(5))
def test_seconds_are_compared_as_told(seed):
    """An IoU of exactly a half is one: percent of a duration would miss it for some."""
    rng = random.Random(seed)
    length, duration = rng.randint(1, 300) / 10, rng.uniform(60, 200)
    annotations = {
        "v": Annotation(duration_seconds=duration, windows=((0, 2 * length),), sentences=("A.",))
    }
    grounding = Grounding(video="v", number=0, event=event_of((0.0, length), duration))
    report = make_grounding_report([grounding], annotations, protocol=PROTOCOLS["activitynet"])
    assert report.figures["r1_at_05"].value == 1.0


def test_captions_of_vtgllm(tmp_path, events):
    generated = dump(
        tmp_path / "raw.json",
        [raw("a", "10.0 - 0.0 seconds, cut bread. 10.0 - 30.0 seconds, Fry it.")],
    )
    read = dump(
        tmp_path / "fmt.json",
        {
            "a.mp4": [
                {"timestamp": [10.0, 0.0], "caption": "cut bread."},
                {"timestamp": ["10.0", "30.0"], "caption": "fry it."},
            ]
        },
    )
    for path in (generated, read):
        told = read_answers(path, events, task="captioning").captions
        assert [(one.seconds, one.sentence) for one in told["a"]] == [
            ((10.0, 0.0), "cut bread."),
            ((10.0, 30.0), "fry it."),
        ]
        report = make_caption_report(told, events, Alike(), protocol=PROTOCOLS["vtgllm"])
        # All of a is met, of b, which has no answer, nothing.
        assert report.figures["f1"].value == 0.5
        assert report.figures["soda_c"].value == pytest.approx(0.5, abs=1e-8)
        assert (report.num_unread, report.num_unanswered) == (0, 1)
        assert report.figures["f1"].num_videos == 2
        # Others leave b out, and take what ends before it starts as told.
        report = make_caption_report(told, events, Alike(), protocol=PROTOCOLS["activitynet"])
        assert report.figures["f1"].num_videos == 1
        assert report.figures["recall"].value == 0.5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([raw("a", None)], "entry 0: vname and generated_cap must be texts"),
        ({"a.mp4": [{"timestamp": [1, 2]}]}, "a timestamp and a caption"),
        ({"a.mp4": [{"timestamp": [1], "caption": "c"}]}, "must be .start, end., got"),
    ],
)
def test_wrong_files_of_vtgllm(tmp_path, events, value, message):
    with pytest.raises(InvalidRequestError, match=message):
        read_answers(dump(tmp_path / "a.json", value), events, task="captioning")


def plain_iou(one, other):
    """In tenths of a second, counted one by one; 1e-8 s are covered besides."""
    first, second = set(range(*one)), set(range(*other))
    return len(first & second) / (len(first | second) + 1e-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_localisation_is_that_of_counting(seed, name):
    rng = random.Random(seed)

    def windows(least):
        starts = [rng.randint(0, 80) for _ in range(rng.randint(least, 5))]
        return [(start, start + rng.randint(1, 20)) for start in starts]

    told = {f"v{k}": windows(0) for k in range(4)}
    true = {f"v{k}": windows(1) for k in range(5)}  # the last has no answer

    def seconds(window):
        return window[0] / 10, window[1] / 10

    annotations = {
        video: Annotation(
            duration_seconds=10.0,
            windows=tuple(map(seconds, each)),
            sentences=tuple(f"true {number}" for number in range(len(each))),
        )
        for video, each in true.items()
    }
    captions = {
        video: tuple(
            event_of(seconds(one), 10.0, f"event {'x' * 9 * number}")
            for number, one in enumerate(each)
        )
        for video, each in told.items()
    }
    report = make_caption_report(captions, annotations, Alike(), protocol=get_protocol(name))
    counted = {}
    for video in true if name == "vtgllm" else told:
        ours, theirs = told.get(video, []), true[video]
        for at in TIOU_THRESHOLDS:
            met = [[plain_iou(one, other) > at for other in theirs] for one in ours]
            precision = sum(map(any, met)) / max(len(ours), 1)
            recall = sum(any(row[k] for row in met) for k in range(len(theirs))) / len(theirs)
            counted[video, at] = precision, recall

    def harmonic(pair):
        return 2 * pair[0] * pair[1] / sum(pair) if sum(pair) else 0.0

    videos = {video for video, _ in counted}
    if name == "vtgllm":
        over = [[counted[video, at] for at in TIOU_THRESHOLDS] for video in videos]
    else:
        over = [[counted[video, at] for video in videos] for at in TIOU_THRESHOLDS]
    expected = np.mean([harmonic(np.mean(pairs, axis=0)) for pairs in over])
    assert report.figures["f1"].value == pytest.approx(expected, rel=1e-12)
    assert ("f1_at_03" in report.figures) == (name != "vtgllm")

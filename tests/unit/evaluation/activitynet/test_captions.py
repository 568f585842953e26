import pytest

from groundserve.evaluation.activitynet.annotations import Annotation, read_annotations
from groundserve.evaluation.activitynet.answer_log import read_answers
from groundserve.evaluation.activitynet.answers import Event, read_text
from groundserve.evaluation.activitynet.captions import (
    as_captions,
    make_caption_report,
    merge_neighbours,
)
from tests.unit.evaluation.activitynet.recorded import (
    ANNOTATION,
    LOG,
    SEEDS,
    RecordedLanguage,
    cases,
)
from tests.unit.evaluation.activitynet.told import Alike

RECORDED = cases()["log_metrics"]


def event(start, end, sentence="A dog."):
    return Event(start_percent=start, end_percent=end, sentence=sentence)


@pytest.fixture(scope="module")
def annotations():
    return read_annotations(ANNOTATION)


@pytest.fixture(scope="module")
def told(annotations):
    return read_answers(LOG, annotations, task="captioning").captions


@pytest.mark.parametrize("case", cases()["captioning_answers"], ids=lambda case: case["answer"])
def test_recorded_answers(case):
    events = read_text(case["answer"], "captioning")
    assert (events is None) == (case["parse_error_printed"] and not case["items_parsed"])
    parsed = [
        event(first, last + 1, item["sentence"])
        for item in case["items_parsed"]
        for first, last in [item["timestamp"]]
    ]
    assert list(events or ()) == parsed
    scored = as_captions(merge_neighbours(events or ()), case["duration"])
    assert [{"sentence": one.sentence, "timestamp": list(one.window)} for one in scored] == case[
        "items_scored_seconds"
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_recorded_log(annotations, told, seed):
    report = make_caption_report(told, annotations, RecordedLanguage(), seed=seed)
    found = {name: estimate.value for name, estimate in report.figures.items()}
    recorded = RECORDED["captioning_details"] | {"SODA_c": RECORDED["captioning"]["soda_c"] / 100}
    names = {"Rouge-L": "rouge_l"}
    for name, value in recorded.items():
        ours = names.get(name, name.lower()).replace("@0.", "_at_0")
        assert found.pop(ours) == pytest.approx(value, rel=1e-9), name  # recorded with 10 digits
    assert not found
    # With other noise the reference finds the same.
    assert RECORDED["captioning"] == RECORDED["captioning_with_other_random_strings"]
    assert report.num_unread == 1
    assert report.figures["soda_c"].num_videos == 3


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([(0, 10), (10, 20)], [(0, 20)], id="next_hundredth"),
        pytest.param([(0, 10), (8, 20)], [(0, 20)], id="one_back"),
        pytest.param([(0, 10), (7, 20)], [(0, 10), (7, 20)], id="two_back"),
        pytest.param([(0, 10), (10, 20), (20, 30)], [(0, 30)], id="three"),
        pytest.param([(0, 10), (9, 5)], [(0, 5)], id="the_last_end_stays"),
    ],
)
def test_neighbours_that_tell_the_same_are_one(events, expected):
    merged = merge_neighbours([event(*one) for one in events])
    assert [(one.start_percent, one.end_percent) for one in merged] == expected


def test_an_answer_without_events_counts_as_nothing():
    one = Annotation(duration_seconds=100.0, windows=((0, 9),), sentences=("A dog.",))
    report = make_caption_report({"v": None, "w": ()}, dict.fromkeys("vw", one), Alike())
    assert {estimate.value for estimate in report.figures.values()} == {0.0}
    assert report.num_unread == 1

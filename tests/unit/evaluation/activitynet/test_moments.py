import pytest

from groundserve.evaluation.activitynet.annotations import Annotation, read_annotations
from groundserve.evaluation.activitynet.answer_log import read_answers
from groundserve.evaluation.activitynet.answers import Event, Grounding, read_text
from groundserve.evaluation.activitynet.moments import (
    grounding_iou,
    make_grounding_report,
)
from tests.unit.evaluation.activitynet.recorded import ANNOTATION, LOG, cases

HUNDRED = Annotation(duration_seconds=100.0, windows=((10, 40),), sentences=("A dog.",))


def report_of(*told, stated=None):
    groundings = [
        Grounding(
            video="v",
            number=0,
            event=None if one is None else Event(start_percent=one[0], end_percent=one[1]),
            stated_iou=stated,
        )
        for one in told
    ]
    return make_grounding_report(groundings, {"v": HUNDRED})


@pytest.mark.parametrize("case", cases()["grounding_answers"], ids=lambda case: case["answer"])
def test_recorded_answers(case):
    events = read_text(case["answer"], "grounding")
    told = None if events is None else [events[0].start_percent, events[0].end_percent]
    assert told == case["parsed_index"]
    annotation = Annotation(duration_seconds=1.0, windows=(tuple(case["truth"]),), sentences=("",))
    iou = grounding_iou(events[0] if events else None, annotation, 0)
    if case["error"] is None:
        assert iou == case["iou"]
    else:  # the reference divides by zero
        assert (case["error"], iou) == ("ZeroDivisionError", 0.0)


def test_recorded_log():
    annotations = read_annotations(ANNOTATION)
    groundings = read_answers(LOG, annotations, task="grounding").groundings
    # Each line of the log says its own IoU.
    assert [grounding_iou(one.event, annotations[one.video], one.number) for one in groundings] == [
        one.stated_iou for one in groundings
    ]
    report = make_grounding_report(groundings, annotations)
    recorded = cases()["log_metrics"]["grounding"]
    names = {"mIoU": "miou", "R1@0.3": "r1_at_03", "R1@0.5": "r1_at_05", "R1@0.7": "r1_at_07"}
    assert names.keys() == recorded.keys()
    assert set(names.values()) == report.figures.keys()
    for name, value in recorded.items():  # recorded with 10 digits
        assert 100 * report.figures[names[name]].value == pytest.approx(value, rel=1e-9)
    assert (report.num_unread, report.num_restated) == (1, 0)
    assert report.figures["miou"].num_questions == 7
    assert report.figures["miou"].num_videos == 3


@pytest.mark.parametrize(
    ("told", "true", "expected"),
    [
        pytest.param((0.1, 0.4), (0.1, 0.4), 1.0, id="the_same"),
        pytest.param((0.0, 0.1), (0.4, 0.5), 0.0, id="apart"),
        pytest.param((0.1, 0.3), (0.2, 0.4), 0.33, id="they_meet"),
        pytest.param((0.4, 0.1), (0.1, 0.4), 0.0, id="ends_before_it_starts"),
        pytest.param((0.0, 0.996), (0.0, 1.0), 1.0, id="two_decimals"),
        # 0.125 is a tie: to the even digit
        pytest.param((0.0, 0.125), (0.0, 1.0), 0.12, id="a_tie"),
    ],
)
def test_iou_of_fractions_is_rounded(told, true, expected):
    event = Event(start_percent=100 * told[0], end_percent=100 * told[1])
    annotation = Annotation(duration_seconds=1.0, windows=(true,), sentences=("",))
    assert grounding_iou(event, annotation, 0) == expected


def test_thresholds_take_the_rounded_value():
    # 0.295 is a little less in binary.
    annotations = {"v": Annotation(duration_seconds=1000.0, windows=((0, 1000),), sentences=("",))}
    for end, expected in ((29.5, 0.0), (29.6, 1.0), (29.4, 0.0)):
        one = Grounding(video="v", number=0, event=Event(start_percent=0, end_percent=end))
        report = make_grounding_report([one], annotations)
        assert report.figures["r1_at_03"].value == expected, end


def test_lines_that_state_another_iou_are_counted():
    assert report_of((10, 40), stated=1.0).num_restated == 0
    assert report_of((10, 40), stated=0.9).num_restated == 1

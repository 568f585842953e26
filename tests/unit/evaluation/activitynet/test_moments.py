import pytest

from groundserve.evaluation.activitynet.annotations import Annotation, read_annotations
from groundserve.evaluation.activitynet.answer_log import read_answers
from groundserve.evaluation.activitynet.answers import Event, Grounding, read_text
from groundserve.evaluation.activitynet.moments import (
    grounding_iou,
    make_grounding_report,
)
from tests.unit.evaluation.activitynet.recorded import ANNOTATION, LOG, cases


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
        event = Event(start_percent=0, end_percent=end)
        told = [Grounding(video="v", number=0, event=event, stated_iou=it) for it in (0.1, None)]
        report = make_grounding_report(told, annotations)
        assert report.figures["r1_at_03"].value == expected, end
        assert report.num_restated == 1

import json

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qvhighlights import (
    IOU_THRESHOLDS,
    highlight_average_precision,
    highlight_hit_at_1,
    make_moment_report,
    moment_average_precision,
    read_ground_truth,
    read_predictions,
)


def average_precision_at(iou, predicted, windows):
    predicted = np.array(predicted, np.float64).reshape(-1, 3)
    precisions = moment_average_precision(predicted, np.array(windows, np.float64))
    return precisions[IOU_THRESHOLDS.index(iou)]


@pytest.mark.parametrize(
    ("predicted", "windows", "expected"),
    [
        pytest.param([[0, 10, 1]], [[0, 5]], 1.0, id="iou_equal_to_the_threshold"),
        pytest.param([[0, 10, 1]], [[0, 10], [20, 30]], 0.5, id="one_of_two_is_never_found"),
        pytest.param([[50, 60, 2], [0, 10, 1]], [[0, 10]], 0.5, id="found_second"),
        pytest.param([[0, 10, 1], [50, 60, 2]], [[0, 10]], 0.5, id="ranked_by_score"),
        pytest.param([[50, 60, 1], [0, 10, 1]], [[0, 10]], 0.5, id="a_tie_keeps_the_lists_order"),
        pytest.param([[0, 10, 2], [0, 10, 1]], [[0, 10]], 1.0, id="a_window_is_found_once"),
        pytest.param(
            [[0, 10, 3], [0, 10, 2], [20, 30, 1]],
            [[0, 10], [20, 30]],
            (1 + 2 / 3) / 2,
            id="a_repetition_costs_precision",
        ),
        pytest.param(
            [[50, 60, 3], [0, 10, 2], [20, 30, 1]],
            [[0, 10], [20, 30]],
            2 / 3,
            id="precision_is_the_best_at_that_or_higher_recall",
        ),
        pytest.param(
            [[2, 12, 2], [0, 10, 1]], [[0, 10], [3, 13]], 1.0, id="the_best_free_match_is_taken"
        ),
        pytest.param(
            [[50, 60, 2]] * 10 + [[0, 10, 3]], [[0, 10]], 0.0, id="only_ten_windows_count"
        ),
    ],
)
def test_moment_average_precision(predicted, windows, expected):
    assert average_precision_at(0.5, predicted, windows) == pytest.approx(expected)


def test_each_threshold_has_its_own_precision():
    # IoU 0.75: found at 0.5 to 0.75, not above.
    got = moment_average_precision(np.array([[0.0, 3, 1]]), np.array([[0.0, 4]]))
    assert got.tolist() == [1.0] * 6 + [0.0] * 4


@pytest.mark.parametrize(
    ("clip_scores", "is_highlight", "expected"),
    [
        pytest.param([3, 2, 1], [0, 1, 1], 2 / 3, id="interpolated"),
        pytest.param([1, 1, 0], [0, 1, 0], 1 / 2, id="a_tie_is_taken_whole"),
        pytest.param([2, 2, 1, 0], [1, 1, 0, 1], (1 + 3 / 4) / 2, id="a_block_counts_once"),
        pytest.param([1, 2], [0, 0], 0.0, id="no_highlight"),
        pytest.param([1, 2, 9], [1, 0], 1 / 2, id="scores_past_the_end_are_ignored"),
        pytest.param([1], [0, 1], 1 / 2, id="missing_scores_are_zero"),
    ],
)
def test_highlight_average_precision(clip_scores, is_highlight, expected):
    got = highlight_average_precision(
        np.array(clip_scores, np.float64), np.array(is_highlight, np.bool_)
    )
    assert got == pytest.approx(expected)


def test_a_hit_needs_one_annotator():
    is_highlight = np.array([[0, 0, 0], [0, 1, 0]], np.bool_)
    assert highlight_hit_at_1(np.array([1.0, 2.0]), is_highlight) == 1.0
    assert highlight_hit_at_1(np.array([2.0, 2.0]), is_highlight) == 0.0  # the earliest
    assert highlight_hit_at_1(np.array([1.0, 2.0, 3.0]), is_highlight) == 0.0  # past the end


TRUTH = [
    {
        "qid": 1,
        "query": "x",
        "vid": "v",
        "duration": 9,
        "relevant_windows": [[0, 4]],
        "relevant_clip_ids": [0, 1],
        "saliency_scores": [[4, 2, 0], [2, 2, 2]],
    },
    {
        "qid": 2,
        "query": "y",
        "vid": "w",
        "duration": 8,
        "relevant_windows": [[4, 6], [0, 2]],
        "relevant_clip_ids": [0, 2],
        "saliency_scores": [[3, 3, 3], [1, 1, 4]],
    },
]
PREDICTED = [
    {"qid": 2, "pred_relevant_windows": [[4, 8, 0.9]], "pred_saliency_scores": [4, 3, 2, 1]},
    {"qid": 1, "pred_relevant_windows": [[0, 4, 0.5]], "pred_saliency_scores": [1, 2, 0, 0]},
]


def write(path, values):
    path.write_text("\n".join(map(json.dumps, values)) + "\n", "utf-8")
    return path


def report(tmp_path, predicted=PREDICTED, truth=TRUTH):
    return make_moment_report(
        read_predictions(write(tmp_path / "p.jsonl", predicted)),
        read_ground_truth(write(tmp_path / "g.jsonl", truth)),
    )


def test_figures_of_two_queries(tmp_path):
    figures = {name: estimate.value for name, estimate in report(tmp_path).figures.items()}
    # Query 1 is found exactly; of query 2 one window of two, at IoU 0.5.
    assert figures["moment_r1_at_05"] == 1.0
    assert figures["moment_r1_at_07"] == 0.5
    assert figures["moment_map_at_05"] == pytest.approx((1 + 0.5) / 2)
    assert figures["moment_map_at_075"] == 0.5
    assert figures["moment_map"] == pytest.approx((1 + 0.5 / 10) / 2)
    # Query 1 ranks clips 1, 0, 2 and 3. Of at least 2: clips 0, 1 by the first two annotators,
    # clip 1 by the third.
    # Query 2 ranks clips 0, 1, 2, 3. Clip 0 by all; clip 2 by the third as well, at rank 3.
    third = (1 + 2 / 3) / 2
    assert figures["highlight_map_fair"] == pytest.approx((1 + (1 + 1 + third) / 3) / 2)
    assert figures["highlight_hit_at_1_fair"] == 1.0
    # Of 4: query 1 clip 0 by the first, at rank 2; query 2 clip 2 by the third, at rank 3.
    assert figures["highlight_map_very_good"] == pytest.approx((0.5 / 3 + (1 / 3) / 3) / 2)
    assert figures["highlight_hit_at_1_very_good"] == 0.0


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        (PREDICTED[:1], "1 are in one only, the first is 1"),
        ([*PREDICTED, {**PREDICTED[0], "qid": 3}], "1 are in one only, the first is 3"),
        ([PREDICTED[0], {"qid": 1, "pred_saliency_scores": [1]}], "for all queries or none"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(predicted, message, tmp_path):
    with pytest.raises(InvalidRequestError, match=message):
        report(tmp_path, predicted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relevant_windows": []}, "line 1: relevant_windows must hold at least one window"),
        ({"relevant_windows": [[1, 2, 3]]}, "relevant_windows must be a list of rows of 2 numbers"),
        ({"relevant_windows": [[30, 10]]}, r"relevant_windows must be \[start, end\] in seconds"),
        ({"relevant_windows": [[1, float("inf")]]}, "relevant_windows must hold finite numbers"),
        ({"relevant_clip_ids": [0, 4]}, r"relevant_clip_ids must be in 0..3"),
    ],
)
def test_malformed_ground_truth_is_refused(change, message, tmp_path):
    with pytest.raises(InvalidRequestError, match=message):
        read_ground_truth(write(tmp_path / "g.jsonl", [{**TRUTH[0], **change}]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"qid": 1}', "line 1: neither pred_relevant_windows nor"),
        ('{"pred_saliency_scores": [1]}', "line 1: qid is missing"),
        ('{"qid": 1, "pred_saliency_scores": ["a"]}', "scores must be a list of numbers"),
        ('{"qid": 1, "pred_saliency_scores": [1]}\n' * 2, "line 2: qid 1 is given twice"),
    ],
)
def test_malformed_predictions_are_refused(text, message, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(InvalidRequestError, match=message):
        read_predictions(path)

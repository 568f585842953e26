"""A reader behind a chat endpoint answers better from selected frames: the benchmark, in small."""

from benchmarks.qa_digits import ARMS, SEED, run


def test_selected_frames_are_worth_more_than_uniform_ones(tmp_path):
    """Twelve videos, one request in twenty failing: the interval of the gain lies above 0."""
    answered = run(tmp_path, num_videos=12, seed=SEED)
    report = answered["report"]
    num_questions = report["num_questions"]
    assert num_questions >= 10
    assert report["num_left"] == 0
    retries = sum(sum(report["arms"][arm]["retries"].values()) for arm in ARMS)
    assert answered["num_requests"] == len(ARMS) * num_questions + retries
    assert {arm: it["num_frames"] for arm, it in report["arms"].items()} == {
        "none": 0.0,
        "uniform": 8.0,
        "selected": 8.0,
        "oracle": 8.0,
    }
    gain = report["differences"]["selected"]
    assert (gain["num_questions"], gain["num_videos"]) == (num_questions, 12)
    assert gain["low"] > 0
    assert report["differences"]["oracle"]["low"] > 0

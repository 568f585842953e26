from __future__ import annotations

import pytest

from groundserve.serving.status import COUNTERS, StatusBoard


@pytest.fixture
def board() -> StatusBoard:
    return StatusBoard()


def test_begins_ready_and_with_nothing_counted(board):
    status = board.status()
    assert status.is_ready
    assert status.problems == ()
    assert status.counters == dict.fromkeys(COUNTERS, 0)


def test_problem_lasts_until_it_is_cleared(board):
    board.report("server", "it is being restarted")
    assert not board.status().is_ready
    board.clear("server")
    assert board.status().is_ready


def test_newer_problem_of_a_subject_replaces_the_older(board):
    board.report("server", "one")
    board.report("server", "two")
    assert board.status().problems == ("two",)


def test_problem_may_leave_the_service_ready(board):
    board.report("engines", "the directory changed", blocks=False)
    assert board.status().is_ready
    board.report("server", "it is being restarted")
    assert board.status().problems == ("the directory changed", "it is being restarted")
    assert not board.status().is_ready


def test_clearing_what_was_never_wrong_is_allowed(board):
    board.clear("server")
    assert board.status().is_ready


def test_status_is_of_its_moment(board):
    before = board.status()
    board.count("stubs_died")
    board.report("server", "it is being restarted")
    assert before.is_ready
    assert (before.counters["stubs_died"], board.status().counters["stubs_died"]) == (0, 1)


def test_unknown_counter_is_a_mistake(board):
    with pytest.raises(KeyError, match="unknown"):
        board.count("unknown")

"""A corpus as events: what is done, lost, done again and waited for adds up."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import corpus_simulation
from benchmarks._corpus_run import Conditions, simulate
from benchmarks._planned_corpus import MAX_SECONDS, Corpus, Units, plan_units
from groundserve.batch.units import UnitSize

CALM = Conditions(num_nodes=1, node_workers=2, start_seconds=0.0, publish_seconds=0.0)
UNITS = Units(videos=(np.array([4.0, 6.0]),), hours=np.array([1.0]))
"""All alike: 10 s, two videos."""


def run(conditions, num_units=20, units=UNITS, seed=0):
    return simulate(
        units, num_units=num_units, conditions=conditions, rng=np.random.default_rng(seed)
    )


def test_nothing_happens():
    found = run(CALM)
    assert found.seconds == pytest.approx(100.0)  # 20 units of 10 s on two workers
    assert found.needed == pytest.approx(200.0)
    assert (found.num_attempts, found.num_lost_units, found.done_twice) == (1, 0, 0.0)


def test_workers_start_anew_with_each_wave_and_wait_for_its_last_unit():
    found = run(replace(CALM, start_seconds=5.0, wave_units=2), num_units=7)
    # Waves of 4 and 3 units: two rounds of 10 s each, after 5 s.
    assert found.seconds == pytest.approx(2 * (5 + 20))


def test_one_driver_publishes_one_unit_after_another():
    found = run(replace(CALM, publish_seconds=8.0, wave_units=100))
    # The first two are done after 10 s; from then on the driver is behind.
    assert found.seconds == pytest.approx(10 + 20 * 8)
    assert found.publish_lag_seconds == pytest.approx(found.seconds - 100)


def test_slow_nodes_take_twice_the_time():
    assert run(replace(CALM, slow_nodes=1)).seconds == pytest.approx(200.0)


def test_poison_is_an_error_and_what_it_took_with_it_is_done_again():
    found = run(replace(CALM, poison_share=1.0), num_units=1)
    assert (found.num_lost_units, found.num_poison, found.num_lost_twice) == (1, 2, 0)
    # Half of the unit, then half of each video by itself.
    assert found.done_twice == pytest.approx(5 + 2 + 3)
    some = run(replace(CALM, poison_share=0.02), num_units=2000)
    assert some.num_attempts == 1
    assert some.num_poison >= some.num_lost_units > 0


def test_a_lost_node_costs_work_and_time_and_no_video():
    conditions = replace(CALM, node_loss_seconds=500.0, replace_seconds=50.0)
    found = run(conditions, num_units=2000)
    assert found.num_lost_units > 0
    assert found.num_poison == 0
    assert found.done_twice > 0
    assert found.seconds > 10_000
    # Each loss is of the node, hence of both workers, ten seconds each at most.
    assert found.done_twice <= 10.0 * (found.num_lost_units * 3)


def test_a_killed_driver_goes_on_where_it_was_published():
    conditions = replace(CALM, driver_kill_seconds=1000.0, plan_seconds_a_row=0.01)
    found = run(conditions, num_units=2000)
    assert found.num_attempts > 1
    # 4,000 rows take 40 s to plan, the last time in full.
    assert 40 * 2 <= found.planning <= 40 * 2 * found.num_attempts
    # At a kill each worker has one unit under way.
    assert found.done_twice <= 10 * 2 * (found.num_attempts - 1)
    waiting = found.seconds * 2 - found.needed - found.done_twice - found.planning
    assert waiting >= -1e-6


def test_what_was_not_published_is_lost_with_the_driver():
    behind = replace(CALM, driver_kill_seconds=300.0, publish_seconds=4.9, wave_units=10**6)
    # Published nearly as fast as done: less is lost than by one that is far behind.
    far = replace(behind, publish_seconds=20.0)
    found, lost = run(behind, num_units=200), run(far, num_units=200)
    assert lost.done_twice > found.done_twice


def test_seeds_decide():
    conditions = replace(CALM, node_loss_seconds=500.0, driver_kill_seconds=2000.0)
    assert run(conditions, 500, seed=1) == run(conditions, 500, seed=1)
    assert run(conditions, 500, seed=1) != run(conditions, 500, seed=2)


def test_units_come_from_the_planner():
    rng = np.random.default_rng(0)
    corpus = Corpus(bytes_per_second=1.0)
    units = plan_units(
        corpus, lambda durations: 2 * durations, num_videos=1000, size=UnitSize(), rng=rng
    )
    assert [len(videos) for videos in units.videos] == [64] * 15 + [40]
    assert units.seconds.sum() == pytest.approx(2 * 3600 * units.hours.sum())
    durations = np.concatenate(units.videos) / 2
    np.testing.assert_array_equal(durations, corpus.draw(1000, np.random.default_rng(0)))
    assert durations.min() >= 1
    assert durations.max() <= MAX_SECONDS
    corpus = Corpus(bytes_per_second=2.0**30)  # each more than a unit takes
    large = plan_units(corpus, np.array, num_videos=50, size=UnitSize(), rng=rng)
    assert {len(videos) for videos in large.videos} == {1}


@pytest.mark.parametrize("num_runs", [1, 4, 16])
def test_nodes_are_dealt_out_evenly_and_slow_ones_as_they_fall(num_runs):
    whole = replace(CALM, num_nodes=16, slow_nodes=5)
    shares = list(corpus_simulation.deal(whole, num_runs, rng=np.random.default_rng(0)))
    assert [one.num_nodes for one in shares] == [16 // num_runs] * num_runs
    assert sum(one.slow_nodes for one in shares) == 5
    assert all(one.slow_nodes <= one.num_nodes for one in shares)


def test_the_real_plan_is_timed():
    found = corpus_simulation.measure_planning(8)
    assert found.value > 0
    assert found.origin == "measured"


def test_a_small_corpus_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(corpus_simulation, "SAMPLE_VIDEOS", 2000)
    monkeypatch.setattr(corpus_simulation, "PLANNED_ROWS", 8)
    monkeypatch.setattr("sys.argv", ["corpus_simulation.py", "--hours", "20000"])
    corpus_simulation.main()
    results = json.loads(capsys.readouterr().out)["results"]
    assert results["corpus"]["hours"] == 20_000
    for row in (*results["scenarios"].values(), *results["runs_of_the_last"].values()):
        assert row["origin"] == "simulated"
        assert sum(row["shares"].values()) == pytest.approx(1)
        assert row["held_over_needed"]["mean"] >= 1
        assert row["shares"]["waiting"] >= 0
    ideal = results["units"]["gpu_seconds"] * results["units"]["number"] / 3600
    assert results["scenarios"]["no faults"]["gpu_hours"] >= 0.9 * ideal

"""A job's rounds, with a cluster that loses what it is told to and no Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundserve.batch import job
from groundserve.batch.cluster import ClusterDiedError, Done, Resources
from groundserve.batch.events import Said
from groundserve.batch.job import MAX_CLUSTER_DEATHS, Workers
from groundserve.batch.shards import ShardWriter
from groundserve.errors import InvalidRequestError, UnavailableError
from tests.batch.jobs import Job, write_manifest
from tests.batch.scripted import ScriptedSource, answer

NUM_VIDEOS = 10


class Clusters:
    """Makes clusters that do units here, and what happens to those."""

    def __init__(self):
        self.num_started = self.num_closed = 0
        self.waves = []
        self.loses = lambda unit: False
        self.dies_before = lambda unit: False
        self.error = None
        self.does_start = lambda: True
        self.dies_at_the_end = False

    def __call__(self):
        self.num_started += 1
        return FakeCluster(self)


class FakeCluster:
    def __init__(self, clusters):
        self.clusters = clusters

    def resources(self):
        if not self.clusters.does_start():
            raise ClusterDiedError("no port is free")
        return Resources(num_cpus=2.0, num_gpus=0.0, is_local=True)

    def run(self, wave):
        self.clusters.waves.append(wave)
        if self.clusters.error is not None:
            raise self.clusters.error
        for place, unit in reversed([*enumerate(wave.units)]):
            if self.clusters.dies_before(unit):
                raise ClusterDiedError("its last words")
            if not self.clusters.loses(unit):
                yield Done(place=place, receipt=self.done(unit, wave.pool.work))
        if self.clusters.dies_at_the_end:
            raise ClusterDiedError("its last words")

    def done(self, unit, work):
        writer = ShardWriter(unit)
        for group in unit.groups:
            for options, queries in group.calls(32):
                result = answer(
                    group.place,
                    queries,
                    options,
                    engine_id="scripted",
                    is_cached=False,
                    spans=(work.span_threshold, work.span_gap_seconds),
                )
                writer.add(group, options, result)
        return writer.write(work.staging)

    def close(self):
        self.clusters.num_closed += 1


@pytest.fixture
def clusters(monkeypatch):
    made = Clusters()
    monkeypatch.setattr(job, "Cluster", made)
    # Units of several videos, of which a lost one has more than the one that is to blame.
    monkeypatch.setattr(job.UnitSize, "for_job", lambda *_, **__: job.UnitSize(max_groups=4))
    return made


@pytest.fixture
def run(tmp_path):
    rows = [(f"{video}.mp4", query) for video in range(NUM_VIDEOS) for query in ("one", "two")]
    manifest = write_manifest(tmp_path, rows)
    return Job(manifest=manifest, out=tmp_path / "out", source=ScriptedSource())


def errors(run):
    return {row["video"]: row["error_kind"] for row in run.final().to_pylist() if row["error_kind"]}


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def videos(unit):
    return [Path(group.place).name for group in unit.groups]


def test_ray_that_breaks_down_is_started_again_for_the_rest(clusters, run):
    clusters.dies_before = lambda unit: unit.number == 1 and clusters.num_started < 3
    events = run.run()
    assert run.final().num_rows == 2 * NUM_VIDEOS
    assert not errors(run)
    assert [len(wave.units) for wave in clusters.waves] == [3, 2, 2]
    assert (clusters.num_started, clusters.num_closed) == (3, 3)
    assert len(of(events, Said)) == 2


def test_ray_that_breaks_down_again_and_again_ends_the_job(clusters, run):
    clusters.dies_before = lambda unit: unit.number == 1
    with pytest.raises(UnavailableError, match=r"broke down 3 times in a row.*\nits last words"):
        run.run()
    # The first one had done a unit before it.
    assert clusters.num_started == clusters.num_closed == MAX_CLUSTER_DEATHS
    clusters.dies_before = lambda unit: False
    run.run(resume=True)
    assert run.final().num_rows == 2 * NUM_VIDEOS


@pytest.mark.parametrize(
    ("address", "num_tries", "message"),
    [
        (None, MAX_CLUSTER_DEATHS, "Ray did not start"),
        ("", MAX_CLUSTER_DEATHS, "Ray did not start"),
        ("host:6379", 1, "no Ray can be used at RAY_ADDRESS=host:6379"),
    ],
)
def test_ray_that_does_not_start_ends_the_job(
    clusters, run, monkeypatch, address, num_tries, message
):
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    clusters.does_start = lambda: False
    with pytest.raises(UnavailableError, match=rf"{message}; it said:\nno port is free"):
        run.run()
    assert clusters.num_started == clusters.num_closed == num_tries


LAPTOP = Resources(num_cpus=8.0, num_gpus=1.0, is_local=True)
EMPTY_CLUSTER = Resources(num_cpus=0.0, num_gpus=0.0, is_local=False)


@pytest.mark.parametrize(
    ("workers", "resources", "number"),
    [
        (Workers(), LAPTOP, 8),
        (Workers(cpus_each=3), LAPTOP, 2),
        (Workers(gpus_each=0.5), LAPTOP, 2),
        (Workers(count=20), LAPTOP, 20),
        (Workers(), EMPTY_CLUSTER, 1),  # whose autoscaler waits for somebody who wants something
        (Workers(count=4), EMPTY_CLUSTER, 4),
    ],
)
def test_how_many_workers_there_are(workers, resources, number):
    assert workers.number(resources) == number


@pytest.mark.parametrize(
    ("workers", "what"), [(Workers(cpus_each=9), "cores"), (Workers(gpus_each=2), "GPUs")]
)
def test_a_worker_that_this_machine_has_no_room_for(workers, what):
    with pytest.raises(InvalidRequestError, match=f"more {what} than this machine has"):
        workers.number(LAPTOP)

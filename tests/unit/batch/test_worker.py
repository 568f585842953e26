"""A worker without Ray: `UnitScorer` and its scorer's process, by a scorer that is scripted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from groundserve.batch.errors import ErrorKind
from groundserve.batch.group_scorer import JobError
from groundserve.batch.shards import Receipt
from tests.batch.scripted import ScriptedSource
from tests.unit.batch.bench import Bench


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def kinds(receipt: Receipt) -> dict[str, ErrorKind]:
    return {failure.id: failure.kind for failure in receipt.failures}


@pytest.mark.parametrize(
    ("video", "kind", "message"),
    [
        ("hanglocked-1.mp4", ErrorKind.TIMEOUT, "hung for 1 s"),
        ("unavailable-1.mp4", ErrorKind.UNAVAILABLE, "nobody answers"),
        ("fault-1.mp4", ErrorKind.INTERNAL, "ZeroDivisionError: a fault of the program"),
    ],
)
def test_a_bad_video_fails_with_its_kind_and_no_other_does(bench, video, kind, message):
    receipt = bench.score(
        bench.group("a.mp4"), bench.group(video, "one", "two"), bench.group("b.mp4")
    )
    assert kinds(receipt) == {"row-1": kind, "row-2": kind}
    assert message in receipt.failures[0].message
    assert receipt.done.num_rows == 2


def test_a_video_that_went_away_is_missing(bench):
    group = bench.group("a.mp4")
    Path(group.place).unlink()
    assert kinds(bench.score(group)) == {"row-0": ErrorKind.MISSING}


def test_other_engines_than_the_runs_end_the_job(bench):
    work = replace(bench.work, source=ScriptedSource(engine_id="others"))
    with pytest.raises(JobError, match="has the engines others, and the run is of scripted"):
        bench.score(bench.group("a.mp4"), work=work)


def test_servers_that_are_gone_end_the_job(bench):
    work = replace(bench.work, source=ScriptedSource(is_shared=True))
    groups = [bench.group(f"unavailable-{number}.mp4") for number in range(3)]
    bench.score(*groups[:2], work=work)
    bench.score(*groups[:2], bench.group("a.mp4"), groups[2], work=work)
    with pytest.raises(JobError, match="no server took 3 videos in a row: nobody answers"):
        bench.score(*groups, work=work)


class NoSource(ScriptedSource):
    def open(self, **_):
        raise RuntimeError("no engine here")


class DyingSource(ScriptedSource):
    def open(self, **_):
        os._exit(3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (NoSource(), "RuntimeError: no engine here"),
        (DyingSource(), "opens a worker's engines died 3 times in a row"),
    ],
)
def test_engines_that_do_not_open_end_the_job(bench, source, message):
    with pytest.raises(JobError, match=message):
        bench.score(bench.group("a.mp4"), work=replace(bench.work, source=source))

"""Cores: what the scheduler allows, not what the machine has."""

import os
import subprocess
import sys

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.runtime.cpus import available_cpus
from train.data.reader import rank_cpus


@pytest.fixture
def machine(monkeypatch):
    """A machine of 96 cores, all of which this process and its parent may use."""
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    return bind(monkeypatch, own=96, parent=96)


def bind(monkeypatch, *, own, parent):
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda pid: set(range(parent if pid == os.getppid() else own))
    )
    # This machine's own quota is no part of the tests.
    monkeypatch.setattr("groundserve.runtime.cpus._groups", lambda *_: [])


def count(tmp_path, membership):
    path = tmp_path / "membership"
    path.write_text(membership)
    return available_cpus(membership=path, cgroups=tmp_path / "cgroup")


def write(tmp_path, name, text):
    path = tmp_path / "cgroup" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def many_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", 64),
        ("800000 100000\n", 8),
        ("250000 100000\n", 2),  # 2.5 cores
        ("20000 100000\n", 1),  # a fifth of one
        ("9000000 100000\n", 64),  # more than there are
    ],
)
def test_a_quota_of_version_2(tmp_path, text, expected):
    write(tmp_path, "cpu.max", text)
    assert count(tmp_path, "0::/\n") == expected


@pytest.mark.usefixtures("many_cores")
def test_a_group_above_binds_too(tmp_path):
    write(tmp_path, "slurm/job_1/cpu.max", "1600000 100000\n")
    write(tmp_path, "slurm/job_1/step_0/cpu.max", "max 100000\n")
    assert count(tmp_path, "0::/slurm/job_1/step_0\n") == 16


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(("quota", "expected"), [("-1", 64), ("600000", 6)])
@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_version_1(tmp_path, quota, expected, folder):
    write(tmp_path, f"{folder}/docker/abc/cpu.cfs_quota_us", f"{quota}\n")
    write(tmp_path, f"{folder}/docker/abc/cpu.cfs_period_us", "100000\n")
    write(tmp_path, "memory/docker/abc/cpu.cfs_quota_us", "100000\n")
    membership = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n"
    assert count(tmp_path, membership) == expected


def test_affinity_counts_not_the_machine():
    """A process that is bound to one core, as by taskset or Slurm."""
    code = "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    code += "from groundserve.runtime.cpus import available_cpus; print(available_cpus())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "1\n"


@pytest.mark.usefixtures("machine")
def test_ranks_share_a_machine(monkeypatch):
    assert rank_cpus({}) == 96
    assert rank_cpus({"LOCAL_WORLD_SIZE": "8"}) == 12
    assert rank_cpus({"LOCAL_WORLD_SIZE": "200"}) == 1
    bind(monkeypatch, own=32, parent=32)  # the job has a third of the machine
    assert rank_cpus({"LOCAL_WORLD_SIZE": "8"}) == 4
    bind(monkeypatch, own=48, parent=96)  # four ranks to a NUMA node
    assert rank_cpus({"LOCAL_WORLD_SIZE": "8"}) == 12
    bind(monkeypatch, own=6, parent=96)  # each rank to its own
    assert rank_cpus({"LOCAL_WORLD_SIZE": "8"}) == 6


@pytest.mark.parametrize("text", ["0", "-1", "two", ""])
def test_a_count_of_ranks_must_be_one(text):
    with pytest.raises(InvalidRequestError, match="LOCAL_WORLD_SIZE must be a whole number >= 1"):
        rank_cpus({"LOCAL_WORLD_SIZE": text})

"""How many workers a job has."""

from __future__ import annotations

from typing import Any

import pytest

from groundserve.batch.ray_pool import Workers
from groundserve.errors import InvalidRequestError

LAPTOP: dict[str, Any] = {"num_cpus": 8.0, "num_gpus": 1.0, "is_local": True}
EMPTY_CLUSTER: dict[str, Any] = {"num_cpus": 0.0, "num_gpus": 0.0, "is_local": False}


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
    assert workers.number(**resources) == number


@pytest.mark.parametrize(
    ("workers", "what"), [(Workers(cpus_each=9), "cores"), (Workers(gpus_each=2), "GPUs")]
)
def test_a_worker_that_this_machine_has_no_room_for(workers, what):
    with pytest.raises(InvalidRequestError, match=f"more {what} than this machine has"):
        workers.number(**LAPTOP)

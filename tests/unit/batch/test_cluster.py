import psutil
import pytest

from groundserve.batch import cluster
from groundserve.batch.cluster import Cluster, ClusterDiedError

# In place of the program that starts Ray; it starts a process, too, which outlives it.
BREAKS_DOWN = "tests.unit.batch.breaking_program"


def test_a_cluster_that_breaks_down_leaves_its_last_words_and_nothing_else(monkeypatch):
    monkeypatch.setattr(cluster, "_PROGRAM", BREAKS_DOWN)
    monkeypatch.setattr(cluster, "_END_SECONDS", 1.0)
    with Cluster() as started:
        with pytest.raises(ClusterDiedError, match=r"^a child is (\d+)\nno room$") as caught:
            started.resources()
        (folder,) = started._folders
        child = psutil.Process(int(str(caught.value).split()[3]))
        assert child.is_running()
    assert not folder.exists()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("address", [None, "", "somewhere:6379"])
def test_a_ray_of_our_own_has_a_token_of_its_own(monkeypatch, address):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    settings = cluster._environment()
    assert ("RAY_AUTH_TOKEN" in settings) == (not address)
    assert settings.get("RAY_AUTH_TOKEN") != cluster._environment().get("RAY_AUTH_TOKEN", "none")
    assert "RAY_USAGE_STATS_ENABLED" not in settings  # the user's own stays

"""A server that went away amid a load."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys

import pytest

from benchmarks import _generator
from benchmarks._generator import Load, run_load
from benchmarks._loops import Windows
from benchmarks._server_view import ServerView, cpu_seconds_by_kind, peak_memory
from benchmarks._workload import Workload
from groundserve import ScoreOptions
from groundserve.errors import UnavailableError


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_that_went_away_is_told_of_across_processes(scheme):
    view = ServerView(scheme, "127.0.0.1:1", None)
    with pytest.raises(UnavailableError, match="the server tells no statistics") as error:
        view.read()
    view.close()
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


@pytest.fixture(params=["gone", "not waited for"])
def ended_pid(request):
    """Of a process that ended, which its parent, this process, may not have noticed yet."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        if request.param == "gone":
            child.wait()
        else:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        yield child.pid


@pytest.mark.parametrize("read", [cpu_seconds_by_kind, peak_memory])
def test_so_is_a_process_that_ended(read, ended_pid):
    with pytest.raises(UnavailableError, match=f"the server's process {ended_pid} ended"):
        read(ended_pid)


@pytest.mark.parametrize("loop", [{"num_clients": 2}, {"rate": 50.0}])
def test_a_load_on_it_ends_with_one_error(monkeypatch, loop):
    """Not with a group of errors, which `benchmarks._command.run` would leave as it is."""

    class Gone(ServerView):
        def read(self):
            raise UnavailableError("the server tells no statistics: gone")

    async def refused(number, *, is_cached):
        await asyncio.sleep(0.001)
        raise UnavailableError("gone")

    async def loop_alone(load, view):
        return await _generator._loop(load, view, refused, 0)

    monkeypatch.setattr(_generator, "_run", loop_alone)
    monkeypatch.setattr(_generator, "ServerView", Gone)
    load = Load(
        way="grpc",
        address="127.0.0.1:1",
        server_pid=None,
        workload=Workload(videos=(b"",), options=ScoreOptions()),
        cached_share=1.0,
        windows=Windows(seconds=0.01, warm_up_seconds=0.01, most=1, stability=0.1),
        timeout_seconds=1.0,
        slo_seconds=1.0,
        seed=0,
        first_number=0,
        **loop,
    )
    with pytest.raises(UnavailableError, match="the server tells no statistics"):
        run_load(load)

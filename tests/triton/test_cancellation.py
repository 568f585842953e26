"""A caller that leaves: its work ends, whichever way it left and whatever was being done.

What ended is told by counts that stand still short of what the request asked for; left alone, each
of these requests would decode twice as much again, or for ever.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from groundserve import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    RequestCancelledError,
    ScoreOptions,
)
from groundserve.engines.manifest import hash_tree
from tests.media_assets import Asset, asset_maker
from tests.triton.answers import FREE_BOX, url
from tests.triton.serve import Server, media_workers, serve

WAIT_SECONDS = 60.0
"""How long something that must happen is waited for; waited out by a failure alone."""
ONE_GOP = Asset(
    name="one_gop.mp4",
    arguments=(
        *("-vf", "scale=1280:720", "-c:v", "libx264", "-preset", "ultrafast"),
        *("-x264-params", "keyint=3000:min-keyint=3000:scenecut=0", "-frames:v", "3000"),
    ),
    num_frames=3000,
)
"""Each group of frames is decoded from the first frame on."""
OPTIONS = ScoreOptions(num_frames=150, sampling="infer", sample_fps=1.25)
# With its timeout a client cancels its call; the server may see that the time is up by itself.
ENDED_EARLY = [
    f'errors_total{{class="{kind.__name__}"}}'
    for kind in (RequestCancelledError, DeadlineExceededError)
]
# One call of `Client`; the address and the video are its arguments.
ASK = """
import sys
from groundserve import Client, ScoreOptions
options = ScoreOptions(num_frames=150, sampling="infer", sample_fps=1.25)
Client(sys.argv[1]).score(sys.argv[2], "When?", options)
"""
COMMAND = "from groundserve.cli.main import main; main()"


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return asset_maker(tmp_path_factory.mktemp("videos"))(ONE_GOP)


@pytest.fixture(scope="module")
def server(served) -> Server:
    return served


def wait_until(happened: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < give_up, f"not within {WAIT_SECONDS} s: {what}"
        time.sleep(0.02)


def stand_still(server: Server) -> bool:
    """Whether no media worker used the CPU for a moment."""
    times = {process: process.cpu_times() for process in media_workers(server)}
    time.sleep(0.2)
    return times == {process: process.cpu_times() for process in media_workers(server)}


@contextmanager
def ending_by_cancellation(server: Server) -> Iterator[Callable[[], None]]:
    """Yield what waits until one more chunk is decoded; expect one request to end early."""
    before = server.metrics()

    def decoded() -> float:
        return server.metrics()["frames_decoded_total"] - before["frames_decoded_total"]

    def ended() -> float:
        after = server.metrics()
        return sum(after[name] - before[name] for name in ENDED_EARLY)

    yield lambda: wait_until(lambda: decoded() > 0, "a chunk is decoded")
    wait_until(lambda: ended() > 0, "the request has ended")
    # Nobody decodes for nobody: a process that was at it is gone, the others wait for a video.
    wait_until(lambda: stand_still(server), "all workers stand still")
    assert decoded() < OPTIONS.num_frames
    assert ended() == 1
    assert server.metrics()["worker_deaths_total"] == before["worker_deaths_total"]


def test_closing_the_client_from_another_thread(server, video):
    client = Client(url(server.triton))
    with ThreadPoolExecutor(1) as pool, ending_by_cancellation(server) as chunk_is_decoded:
        asked = pool.submit(client.score, video, "When?", OPTIONS)
        chunk_is_decoded()
        client.close()
        with pytest.raises(RequestCancelledError, match="its client was closed"):
            asked.result()


def test_cancelling_the_task_of_an_async_client(server, video):
    async def main():
        with ending_by_cancellation(server) as chunk_is_decoded:
            async with AsyncClient(url(server.triton)) as client:
                task = asyncio.create_task(client.score(video, "When?", OPTIONS))
                await asyncio.to_thread(chunk_is_decoded)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(main())


def test_passing_of_the_clients_timeout(server, video):
    with (
        ending_by_cancellation(server),
        Client(url(server.triton), timeout_seconds=1) as client,
        pytest.raises(DeadlineExceededError),
    ):
        client.score(video, "When?", OPTIONS)


def test_kill_9_of_the_clients_process(server, video):
    with (
        ending_by_cancellation(server) as chunk_is_decoded,
        subprocess.Popen([sys.executable, "-c", ASK, url(server.triton), video]) as process,
    ):
        chunk_is_decoded()
        process.kill()


def test_interrupt_of_the_command(server, video):
    command = [sys.executable, "-c", COMMAND, "score", str(video), "--query", "When?"]
    command += ["--server", url(server.triton), "--num-frames", "150", "--sample-fps", "1.25"]
    command += ["--sampling", "infer"]
    with (
        ending_by_cancellation(server) as chunk_is_decoded,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        chunk_is_decoded()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert process.returncode == 130
    assert output == b""
    assert b"Traceback" not in errors


@contextmanager
def suspended(server: Server) -> Iterator[None]:
    """Have the media workers answer no more, and one of them be killed for it."""
    stopped = media_workers(server)
    for worker in stopped:
        worker.suspend()
    yield
    wait_until(lambda: not stopped <= media_workers(server), "a worker is killed")
    for worker in media_workers(server):
        worker.resume()


def test_decoding_that_hangs(server, video):
    client = Client(url(server.triton))
    with ThreadPoolExecutor(1) as pool, ending_by_cancellation(server) as chunk_is_decoded:
        asked = pool.submit(client.score, video, "When?", OPTIONS)
        chunk_is_decoded()
        with suspended(server):
            client.close()
            with pytest.raises(RequestCancelledError):
                asked.result()


def test_probing_that_hangs(server, clips, video):
    server.ask(clips["vfr"], "When?")  # starts the worker that will be asked
    with (
        ending_by_cancellation(server),
        Client(url(server.triton), timeout_seconds=2) as client,
        suspended(server),
        pytest.raises(DeadlineExceededError),
    ):
        client.score(video, "When?", OPTIONS)


HELD = """
import time
from pathlib import Path
from python_backend.triton.{model} import TritonPythonModel as Model

HOLD, LOG = Path({folder!r}) / {model!r}, Path({folder!r}) / "log"

class TritonPythonModel(Model):
    def {method}(self, items, *deadline):
        if not items or not HOLD.exists():
            return super().{method}(items, *deadline)
        with LOG.open("a") as log:
            print("held", file=log, flush=True)
            while HOLD.exists():
                for one in deadline:
                    try:
                        # Of a batch those of all its callers.
                        [each.check() for each in (one if isinstance(one, tuple) else (one,))]
                    except Exception as error:
                        print(type(error).__name__, file=log)
                        raise
                time.sleep(0.02)
        return super().{method}(items, *deadline)
"""
METHODS = {"video_decode": "_decode", "vision_encoder": "_pass", "grounding": "_ground"}


@pytest.fixture(scope="module")
def held(engine_dirs, tmp_path_factory) -> Iterator[tuple[Server, Path]]:
    """A server whose model of a stage works on as long as a file of its name lies in the folder."""
    folder = tmp_path_factory.mktemp("held")
    engines = shutil.copytree(engine_dirs["cpu"], folder / "engines")
    for model, method in METHODS.items():
        source = HELD.format(model=model, method=method, folder=str(folder))
        (engines / "model_repository" / model / "1" / "model.py").write_text(source)
    manifest = json.loads((engines / "manifest.json").read_text())
    (engines / "manifest.json").unlink()
    (engines / "manifest.json").write_text(json.dumps({**manifest, "files": hash_tree(engines)}))
    with serve(engines, folder / "server.log") as running:
        yield running, folder


@pytest.mark.parametrize("model", METHODS)
def test_closing_the_client_while_another_model_works(held, clips, model):
    server, folder = held
    before = server.metrics()
    options = ScoreOptions(num_frames=150, sampling="infer", sample_fps=20)
    log = folder / "log"
    log.write_text("")
    (folder / model).touch()
    client = Client(url(server.triton))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.score, clips["bikes"], "When?", options)
        wait_until(lambda: "held" in log.read_text(), f"{model} works")
        client.close()
        with pytest.raises(RequestCancelledError):
            asked.result()
    cancelled = 'errors_total{class="RequestCancelledError"}'
    wait_until(lambda: server.growth(before)[cancelled] == 1, "the request has ended")
    (folder / model).unlink()
    assert set(log.read_text().split()) == {"held", "RequestCancelledError"}
    assert server.growth(before)['stage_seconds_count{stage="ground"}'] == 0
    assert server.ask(clips["vfr"], "When?")["FRAME_LOGITS"].shape[0] == 1


def test_client_gets_what_one_call_of_the_ensemble_gives(cached, clips):
    queries, options = ["When?", "Where is it?"], ScoreOptions(num_frames=20, top_k=3)
    names = ("bikes", "vfr")
    counts = {"client": Counter[str](), "ensemble": Counter[str]()}
    with Client(url(cached.triton)) as client:
        for name, is_hit in [(name, is_hit) for is_hit in (False, True) for name in names]:
            video = clips[name].read_bytes() + FREE_BOX
            before = cached.metrics()
            result = client.score(video, queries, options)
            between = cached.metrics()
            expected = cached.send(video + FREE_BOX, *queries, num_frames=20, top_k=3)
            counts["ensemble"].update(cached.growth(between))
            counts["client"].update({key: between[key] - before[key] for key in before})
            info = json.loads(expected["INFO"][0])
            assert info["cache_hit"] is is_hit
            assert result.timing_ms.keys() == info["timing_ms"].keys()
            own = {"timing_ms": result.timing_ms, "video_bytes": len(video)}
            assert result.info.to_json() == info | own
            np.testing.assert_array_equal(result.frame_indices, expected["FRAME_INDICES"])
            np.testing.assert_array_equal(result.pts_seconds, expected["PTS_SECONDS"])
            for q, query in enumerate(result.queries):
                np.testing.assert_array_equal(query.frame_logits, expected["FRAME_LOGITS"][q])
                np.testing.assert_array_equal(query.frame_scores, expected["FRAME_SCORES"][q])
                np.testing.assert_array_equal(query.selected_frames, expected["SELECTED_FRAMES"][q])
    for name in ("cache_hits_total", "cache_misses_total"):
        assert counts["client"][name] == counts["ensemble"][name] == len(names)

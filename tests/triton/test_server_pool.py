"""Several servers as one scorer, one of them real and one that is not there."""

import socket

import numpy as np
import pytest

from groundserve import Client
from groundserve.batch.engines import EngineSource
from groundserve.batch.servers import ServerPool, rank
from groundserve.engines.manifest import Manifest
from groundserve.errors import MediaError, UnavailableError
from groundserve.limits import Limits


@pytest.fixture
def nobody():
    """An address that nobody answers at, and that nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"grpc://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def url(server):
    return f"grpc://{server.grpc_address}"


def test_a_video_whose_server_is_away_is_scored_by_the_next(url, nobody, clips, tmp_path):
    names = (tmp_path / f"{number}.mp4" for number in range(100))
    video = next(name for name in names if rank(name.as_posix(), [url, nobody])[0] == nobody)
    video.symlink_to(clips["carphone_pristine"])
    with ServerPool([url, nobody]) as pool, Client(url) as client:
        expected = client.score(video, ["When?"]).queries[0].frame_logits
        for _ in range(2):
            got = pool.score(str(video), ["When?"]).queries[0].frame_logits
            np.testing.assert_array_equal(got, expected)


def test_a_bad_video_is_no_reason_to_ask_another(url, nobody, tmp_path):
    video = tmp_path / "text.mp4"
    video.write_text("no video")
    with ServerPool([url, nobody]) as pool, pytest.raises(MediaError):
        pool.score(str(video), ["When?"])


def test_the_servers_say_which_engines_they_have(url, nobody, engine_dirs):
    expected = Manifest.load(engine_dirs["cpu"]).identity
    assert EngineSource(servers=(url, nobody)).identity() == expected
    assert EngineSource(engines=engine_dirs["cpu"]).identity() == expected
    with EngineSource(servers=(url,)).open(num_threads=1, limits=Limits()) as scorer:
        assert isinstance(scorer, ServerPool)


def test_no_server_that_answers_has_no_identity(nobody, monkeypatch):
    monkeypatch.setattr("groundserve.client._exchange._FIRST_WAIT_SECONDS", 0.01)
    with pytest.raises(UnavailableError, match=f"no server answers; {nobody} said: .*refused"):
        EngineSource(servers=(nobody,)).identity()

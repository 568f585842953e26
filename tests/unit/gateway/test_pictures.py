"""Frames and clips of stored videos, as files."""

import asyncio
import io
import threading

import av
import pytest
from PIL import Image

from groundserve.gateway.keys import add_key
from tests.support.reference import SET_2
from tests.unit.gateway.conftest import WAIT_SECONDS


@pytest.fixture
def gateway(start, scripted):
    return start(scripted)


def upload(gateway, content):
    return f"/v1/videos/{gateway.post('/v1/videos', content=content).json()['id']}"


def test_a_frame_and_a_clip(gateway):
    video = upload(gateway, (SET_2 / "vfr.mp4").read_bytes())
    picture = gateway.get(f"{video}/frames/7.jpg", params={"longest_side": 32})
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert max(Image.open(io.BytesIO(picture.content)).size) == 32
    clip = gateway.get(f"{video}/clip.mp4", params={"start": 0.5, "end": 1})
    assert (clip.status_code, clip.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(clip.content)) as container:
        frames = list(container.decode(video=0))
    assert frames[0].time == 0
    assert len(frames) > 3


def test_what_is_none_is_refused(gateway):
    video = upload(gateway, (SET_2 / "vfr.mp4").read_bytes())
    for place, status in (
        ("frames/99999.jpg", 400), ("frames/-1.jpg", 400), ("frames/x.jpg", 400),
        ("frames/0.jpg?longest_side=0", 400), ("clip.mp4?end=x", 400),
        ("clip.mp4?start=2&end=1", 400), ("clip.mp4?start=nan&end=1", 400),
        ("clip.mp4?start=9e5&end=1e6", 400),
    ):  # fmt: skip
        answer = gateway.get(f"{video}/{place}")
        assert (place, answer.status_code) == (place, status)
        assert "/" not in answer.json()["error"]["message"].replace("and/or", "")
    assert gateway.get("/v1/videos/video-none/frames/0.jpg").status_code == 404
    linked = upload(gateway, b"another")
    path = gateway.server.videos_dir / linked.rpartition("/")[2]
    path.unlink()
    path.symlink_to(SET_2 / "vfr.mp4")
    assert gateway.get(f"{linked}/frames/0.jpg").status_code == 404
    broken = upload(gateway, b"no video" * 100)
    for place in ("frames/0.jpg", "clip.mp4?start=0&end=1"):
        answer = gateway.get(f"{broken}/{place}")
        assert answer.status_code == 422
        assert "/" not in answer.json()["error"]["message"]


def test_one_key_leaves_a_process_to_the_others(start, tmp_path):
    keys = {name: add_key(tmp_path / "keys", name) for name in ("anna", "ben")}
    client = start(keys_file=tmp_path / "keys", key=keys["anna"])
    video = upload(client, (SET_2 / "vfr.mp4").read_bytes())
    desk, let_go = client.server.app.state.gateway, threading.Event()

    def hold(workers, source, *, deadline):
        let_go.wait(WAIT_SECONDS)

    bens = [
        asyncio.run_coroutine_threadsafe(
            desk.pictures.make(desk.access.owner(keys["ben"]), SET_2 / "vfr.mp4", hold),
            client.server._loop,
        )
        for _ in range(8)
    ]
    assert client.get(f"{video}/frames/0.jpg").status_code == 200
    assert not any(one.done() for one in bens)
    let_go.set()
    for one in bens:
        one.result(WAIT_SECONDS)

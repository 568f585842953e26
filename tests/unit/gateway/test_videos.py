"""Uploads: caps, quotas, a full disk, and what is left after each."""

from __future__ import annotations

import os
import time

import pytest

from groundserve import MediaError
from groundserve.gateway import spool as spool_module
from groundserve.gateway.keys import add_key

CAP = 100_000


def files(tmp_path):
    spool = tmp_path / "spool"
    return [*(spool / "videos").iterdir(), *(spool / "arriving").iterdir()]


def form(content, **fields):
    return {"files": {"video": ("a.mp4", content)}, "data": fields}


def test_a_video_is_stored_told_and_deleted(start, tmp_path):
    client = start()
    raw = client.post("/v1/videos", content=b"one", headers={"content-type": "video/mp4"})
    in_form = client.post("/v1/videos", **form(b"two!"))
    assert [one.status_code for one in (raw, in_form)] == [201, 201]
    assert [one.json()["num_bytes"] for one in (raw, in_form)] == [3, 4]
    assert [one.json()["name"] for one in (raw, in_form)] == ["<bytes>", "a.mp4"]
    listed = client.get("/v1/videos").json()["videos"]
    assert {one["id"] for one in listed} == {one.json()["id"] for one in (raw, in_form)}
    assert {path.read_bytes() for path in files(tmp_path)} == {b"one", b"two!"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(tmp_path))
    place = f"/v1/videos/{raw.json()['id']}"
    told = client.get(place).json()
    assert told == raw.json() | {"used_at": told["used_at"]}
    assert client.delete(place).status_code == 204
    assert client.delete(place).status_code == 404
    assert [path.read_bytes() for path in files(tmp_path)] == [b"two!"]


def test_a_forms_type_is_known_in_any_case(start, tmp_path):
    client = start()
    request = client.build_request("POST", "/v1/videos", **form(b"two!"))
    request.headers["content-type"] = request.headers["content-type"].replace("multi", "Multi")
    assert client.send(request).json()["name"] == "a.mp4"
    unnamed = client.post("/v1/videos", files={"video": (None, b"two!")}).json()
    assert unnamed["name"] == "<bytes>"
    client.delete(f"/v1/videos/{unnamed['id']}")
    assert [path.read_bytes() for path in files(tmp_path)] == [b"two!"]


@pytest.mark.parametrize("is_announced", [True, False])
@pytest.mark.parametrize("is_form", [True, False])
def test_a_video_above_the_cap_is_refused_while_it_comes(start, tmp_path, is_announced, is_form):
    client = start(max_video_bytes=CAP, max_body_bytes=1000)

    def chunks():
        yield b"x" * (CAP + 10_000)

    content = b"x" * (CAP + 10_000) if is_announced else chunks()
    if is_form:
        request = client.build_request("POST", "/v1/videos", **form(b"x" * (CAP + 1)))
        if not is_announced:
            del request.headers["content-length"]
            request.headers["transfer-encoding"] = "chunked"
        answer = client.send(request)
    else:
        answer = client.post("/v1/videos", content=content)
    assert answer.status_code == 413
    assert answer.json() == {
        "error": {"type": "TooLargeError", "message": answer.json()["error"]["message"]}
    }
    assert str(CAP) in answer.text
    assert files(tmp_path) == []
    assert client.post("/v1/videos", content=b"x" * CAP).status_code == 201


def test_an_empty_video_is_refused(start, tmp_path):
    answer = start().post("/v1/videos", content=b"")
    assert answer.status_code == 422
    assert answer.json()["error"]["type"] == MediaError.__name__
    assert files(tmp_path) == []


def test_a_full_disk_is_told_and_leaves_nothing(start, tmp_path, monkeypatch):
    def no_space(*_):
        raise OSError(28, "No space left on device", str(tmp_path))

    client = start()
    with monkeypatch.context() as patch:
        patch.setattr(spool_module, "_write", no_space)
        answer = client.post("/v1/videos", content=b"one")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["error"]["type"] == "UnavailableError"
    assert str(tmp_path) not in answer.text
    assert files(tmp_path) == []
    assert client.post("/v1/videos", content=b"one").status_code == 201


def test_a_full_spool_takes_the_owners_oldest_and_nobody_elses(start, tmp_path):
    keys = {name: add_key(tmp_path / "keys", name) for name in ("anna", "ben")}
    client = start(keys_file=tmp_path / "keys", max_spool_bytes=10)
    headers = {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}
    first, second = (
        client.post("/v1/videos", content=b"1234", headers=headers["anna"]).json()["id"]
        for _ in range(2)
    )
    refused = client.post("/v1/videos", content=b"1234", headers=headers["ben"])
    assert refused.status_code == 503
    third = client.post("/v1/videos", content=b"1234", headers=headers["anna"]).json()["id"]
    kept = client.get("/v1/videos", headers=headers["anna"]).json()["videos"]
    assert [one["id"] for one in kept] == [second, third] != [first, second]


def test_a_key_stores_so_many_bytes(start, tmp_path):
    key = add_key(tmp_path / "keys", "anna", max_stored_bytes=10)
    client = start(keys_file=tmp_path / "keys", key=key)
    first = client.post("/v1/videos", content=b"123456").json()["id"]
    refused = client.post("/v1/videos", content=b"123456")
    assert refused.status_code == 429
    assert len(files(tmp_path)) == 1
    client.delete(f"/v1/videos/{first}")
    assert client.post("/v1/videos", content=b"123456").status_code == 201


def test_a_key_stores_so_many_videos(start, tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_MAX_VIDEOS", 2)
    client = start()
    ids = [client.post("/v1/videos", content=b"1").json()["id"] for _ in range(2)]
    assert client.post("/v1/videos", content=b"1").status_code == 429
    client.delete(f"/v1/videos/{ids[0]}")
    assert client.post("/v1/videos", content=b"1").status_code == 201
    assert len(files(tmp_path)) == 2


def test_videos_expire_and_what_a_kill_left_goes(start, tmp_path):
    client = start(max_age_seconds=3600)
    old, new = (client.post("/v1/videos", content=b"123").json()["id"] for _ in range(2))
    spool = client.server.app.state.gateway.spool
    spool.store._rows.execute(
        "UPDATE videos SET used_at = ? WHERE id = ?", (time.time() - 4e3, old)
    )
    spool.expire()
    assert [path.name for path in files(tmp_path)] == [new]
    (spool.videos_dir / "video-of-nobody").touch()
    (tmp_path / "spool" / "arriving" / "half").touch()
    os.unlink(spool.videos_dir / new)
    spool._tidy()
    assert files(tmp_path) == []
    assert client.get("/v1/videos").json() == {"videos": []}


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("multipart/form-data", b"", "multipart/form-data"),
        ("multipart/form-data; boundary=b", b"", "ends in the middle"),
        ("multipart/form-data; boundary=b", b"nothing of it", "no multipart"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\nabc',
            "ends in the middle",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="video"\r\n\r\nabc\r\n--b\r\n'
            b'Content-Disposition: form-data; name="video"\r\n\r\nabc\r\n--b--\r\n',
            "give one file",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nabc\r\n--b--\r\n',
            "give one file",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b--\r\n",
            "a form has the parts",
        ),
    ],
)
def test_a_form_that_is_none_is_refused(start, tmp_path, content_type, body, message):
    answer = start().post("/v1/videos", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert files(tmp_path) == []

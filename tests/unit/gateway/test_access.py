"""Keys: what each route refuses, and whose videos and jobs are whose."""

from __future__ import annotations

import json

import pytest

from groundserve import InvalidRequestError
from groundserve.gateway.app import create_app
from groundserve.gateway.keys import add_key
from groundserve.gateway.settings import GatewaySettings

OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect"}
"""Routes without a key; the rest of them are files that come with a package."""
VIDEO = b"a video's bytes"


@pytest.fixture
def keys(tmp_path):
    return {name: add_key(tmp_path / "keys", name) for name in ("anna", "ben")}


def routes(app):
    """All routes of the application: (method, path), with those of its routers."""
    found = set()
    left = list(app.routes)
    while left:
        route = left.pop()
        if router := getattr(route, "original_router", None):
            left += router.routes
        elif methods := getattr(route, "methods", None):
            found |= {(method, route.path) for method in methods - {"HEAD"}}
        else:
            assert route.path == "/static-offline-docs"
    return found


def test_every_route_refuses_a_missing_a_wrong_and_anothers_key(start, scripted, tmp_path, keys):
    client = start(scripted, keys_file=tmp_path / "keys")
    as_anna = {"authorization": f"Bearer {keys['anna']}"}
    as_ben = {"authorization": f"Bearer {keys['ben']}"}
    video = client.post("/v1/videos", content=VIDEO, headers=as_anna).json()["id"]
    body = {"video_id": video, "queries": ["a"], "background": True}
    job = client.post("/v1/score", json=body, headers=as_anna).json()["id"]
    found = routes(client.server.app)
    assert {path for _, path in found} > OPEN
    assert len(found) > 14
    for method, path in found:
        place = path.format(video_id=video, job_id=job, ordinal=0)
        missing = client.request(method, place)
        if path in OPEN:
            assert missing.status_code == 200
            continue
        wrong = client.request(method, place, headers={"authorization": "Bearer gs-wrong"})
        for answer in (missing, wrong):
            assert answer.status_code == 401, (method, path)
            assert answer.json()["error"]["type"] == "AuthenticationError"
            assert answer.headers["www-authenticate"] == "Bearer"
        if "{" in path:
            others = client.request(method, place, headers=as_ben)
            assert others.status_code == 404, (method, path)
            nobodys = client.request(
                method,
                path.format(video_id="video-0", job_id="job-0", ordinal=0),
                headers=as_ben,
            )
            # Whether it exists nobody else learns.
            assert others.json() == nobodys.json()
    body = {"video_id": video, "queries": ["a"]}
    assert client.post("/v1/score", json=body, headers=as_ben).status_code == 404
    assert client.get("/v1/videos", headers=as_ben).json() == {"videos": []}
    assert client.get("/v1/jobs", headers=as_ben).json() == {"jobs": []}
    assert client.get(f"/v1/videos/{video}", headers=as_anna).status_code == 200
    assert client.post("/v1/score", json=body, headers=as_anna).status_code == 200


def test_a_key_is_kept_as_its_hash_and_taken_back_with_its_line(start, tmp_path, keys):
    path = tmp_path / "keys"
    client = start(keys_file=path, key=keys["anna"])
    assert client.get("/v1/models").status_code == 200
    text = path.read_text()
    assert keys["anna"] not in text
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("".join(line for line in text.splitlines(True) if "anna" not in line))
    assert client.get("/v1/models").status_code == 401
    as_ben = {"authorization": f"Bearer {keys['ben']}"}
    assert client.get("/v1/models", headers=as_ben).status_code == 200
    path.write_text("{")  # those that were read go on
    assert client.get("/v1/models", headers=as_ben).status_code == 200
    path.unlink()
    assert client.get("/v1/models", headers=as_ben).status_code == 401
    path.write_text(text)
    assert client.get("/v1/models", headers=as_ben).status_code == 200


def test_a_key_has_a_rate(start, tmp_path):
    key = add_key(tmp_path / "keys", "anna", requests_per_minute=2)
    client = start(keys_file=tmp_path / "keys", key=key)
    assert [client.get("/v1/models").status_code for _ in range(2)] == [200, 200]
    refused = client.get("/v1/models")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.json()["error"]["type"] == "RateLimitError"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        json.dumps({"name": "a"}),
        json.dumps({"name": "", "sha256": "0"}),
        json.dumps({"name": "a", "sha256": "0", "max_jobs": 0}),
        json.dumps({"name": "a", "sha256": "0", "more": 1}),
    ],
)
def test_a_file_of_keys_that_is_none_is_refused(tmp_path, line):
    (tmp_path / "keys").write_text(f"\n{line}\n")
    settings = GatewaySettings(spool_dir=tmp_path / "spool", keys_file=tmp_path / "keys")
    with pytest.raises(InvalidRequestError, match="keys:2: "):
        create_app(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::1", "localhost"])
def test_without_keys_it_listens_on_loopback_alone(tmp_path, host):
    with pytest.raises(InvalidRequestError, match="host"):
        GatewaySettings(spool_dir=tmp_path, host=host)
    GatewaySettings(spool_dir=tmp_path, host="127.0.0.2")
    GatewaySettings(spool_dir=tmp_path, host="0.0.0.0", keys_file=tmp_path / "keys")

"""Scores and answers through the gateway: the JSON of the command line, whatever the way in."""

from __future__ import annotations

import dataclasses
import json

import pytest

from groundserve import AnswerOptions, Client, ScoreOptions

VIDEO = b"a video's bytes"


def expected(scripted, kind, request_id, queries, options, name):
    with Client(scripted.url) as client:
        result = getattr(client, kind)(VIDEO, queries, options, request_id=request_id)
    return json.dumps(dataclasses.replace(result, video=name).to_json(), ensure_ascii=False)


@pytest.mark.parametrize("kind", ["score", "ask"])
def test_the_answer_is_the_command_lines(start, scripted, kind):
    options = ScoreOptions(top_k=3) if kind == "score" else AnswerOptions(max_new_tokens=9)
    given = json.loads(options.to_json())
    client = start(scripted)
    video = client.post("/v1/videos", content=VIDEO).json()
    queries = ["Où est-ce ?", "b"]
    body = {"video_id": video["id"], "queries": queries, **given}
    stored = client.post(f"/v1/{kind}", json=body, headers={"x-request-id": "r-1"})
    assert stored.status_code == 200, stored.text
    assert stored.headers["x-request-id"] == "r-1"
    assert stored.text == expected(scripted, kind, "r-1", queries, options, "<bytes>")
    sent = client.post(
        f"/v1/{kind}",
        files={"video": ("my film.mp4", VIDEO)},
        data={"query": queries, "options": json.dumps(given)},
        headers={"x-request-id": "r-2"},
    )
    assert sent.status_code == 200, sent.text
    assert sent.text == expected(scripted, kind, "r-2", queries, options, "my film.mp4")
    assert [one.options for one in scripted.requests][:1] == [given]

"""Frames of what a server and a pipeline have scored; the example of docs/score.md."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from groundserve.errors import InvalidRequestError
from groundserve.options import ScoreOptions
from tests.media_assets.whole_file import decode_whole_file
from tests.support.reference import REPOSITORY


def test_documented_lines_give_the_messages_of_a_chat(server, clips, tmp_path, monkeypatch):
    page = (REPOSITORY / "docs" / "score.md").read_text("utf-8")
    (code,) = re.findall(r"<!-- run: python -->\n```python\n(.*?)```", page, re.DOTALL)
    shutil.copyfile(clips["bikes"], tmp_path / "bikes.mp4")
    monkeypatch.chdir(tmp_path)
    variables: dict[str, object] = {}
    exec(code.replace("127.0.0.1:8001", server.grpc_address), variables)
    (message,) = variables["messages"]
    images = [part["image"] for part in message["content"] if part["type"] == "image"]
    assert [image.size for image in images] == [(448, 190)] * 4
    whole = decode_whole_file(clips["bikes"])
    for image, ordinal in zip(images, variables["best"].selected_frames, strict=True):
        expected = Image.fromarray(whole[ordinal]).resize(image.size, Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    assert message["content"][-1]["text"] == "When is a parked bicycle shown?"


def test_pipeline_gives_the_frames_that_it_scored(pipeline, clips):
    result = pipeline.score(clips["rotated"], "When?", ScoreOptions(top_k=3))
    selected = result.queries[0].selected_frames
    whole = decode_whole_file(clips["rotated"])
    frames = pipeline.frames(clips["rotated"], selected)
    np.testing.assert_array_equal(frames, [whole[ordinal] for ordinal in selected])


def test_pipeline_holds_to_its_limits(pipeline, clips):
    limits = replace(pipeline.limits, max_num_frames=2)
    with pytest.raises(InvalidRequestError, match=r"at most 2 \(max_num_frames\), got 3"):
        replace(pipeline, limits=limits).frames(clips["rotated"], [0, 1, 2])

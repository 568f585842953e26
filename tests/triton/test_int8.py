"""Precision int8 through the real server: dynamic batches change nothing, and answers name it."""

from __future__ import annotations

import numpy as np

from groundserve import Client
from python_backend.pipeline import Pipeline
from tests.support.reference import SET_1
from tests.triton.serve import in_parallel, serve


def test_answers_are_those_of_the_process_whatever_else_is_encoded(engines_of, clips, tmp_path):
    engines = engines_of(SET_1 / "videoitg-tiny", "cpu", "int8")
    videos = [clips[name] for name in ("vfr", "rotated", "vfr", "carphone_pristine")]
    with Pipeline.open(engines) as pipeline:
        expected = [pipeline.score(video, ["When?"]) for video in videos]
    with serve(engines, tmp_path / "log") as server:

        def ask(video):
            with Client(f"grpc://{server.triton.grpc_address}") as client:
                return client.score(video, ["When?"])

        results = in_parallel(len(videos), ask, videos)
    for result, one in zip(results, expected, strict=True):
        assert result.engine == one.engine
        assert result.engine["precision"] == "int8"
        np.testing.assert_array_equal(result.queries[0].frame_logits, one.queries[0].frame_logits)

"""`AsyncClient` on the real server: the same bits, many at one time, and a pipeline's end."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from groundserve import AsyncClient, Client, Pipeline, RequestCancelledError, ScoreOptions

OPTIONS = ScoreOptions(sampling="infer", sample_fps=20, num_frames=150, top_k=5)


def assert_same(one, two):
    np.testing.assert_array_equal(one.frame_indices, two.frame_indices)
    np.testing.assert_array_equal(one.pts_seconds, two.pts_seconds)
    for a, b in zip(one.queries, two.queries, strict=True):
        assert a.query == b.query
        np.testing.assert_array_equal(a.frame_logits, b.frame_logits)
        np.testing.assert_array_equal(a.selected_frames, b.selected_frames)
        assert a.spans == b.spans


def test_many_requests_of_one_client_answer_as_the_client_of_threads(server, clips, video_root):
    url = f"grpc://{server.grpc_address}"
    names = ("bikes", "carphone_pristine", "vfr")
    uri = (video_root / "carphone.mp4").as_uri()

    async def main():
        async with AsyncClient(url) as client:
            assert await client.is_ready()
            uploads = [client.score(clips[name], ["When?", name], OPTIONS) for name in names]
            by_uri = client.score(queries="When?", video_uri=uri, request_id="mine")
            return await asyncio.gather(*uploads, by_uri)

    *answers, by_uri = asyncio.run(main())
    with Client(url) as client:
        for name, answer in zip(names, answers, strict=True):
            assert_same(answer, client.score(clips[name], ["When?", name], OPTIONS))
        assert_same(by_uri, client.score(queries="When?", video_uri=uri))
    assert (by_uri.video, by_uri.request_id) == (uri, "mine")


def test_closing_a_pipeline_ends_its_calls_in_other_threads(engine_dirs, clips):
    pipeline = Pipeline.open(engine_dirs["cpu"])
    asked = ScoreOptions(sampling="infer", sample_fps=20, num_frames=1024)
    with ThreadPoolExecutor(1) as pool:
        score = pool.submit(pipeline.score, clips["bikes"], ["When?"] * 32, asked)
        while not pipeline.extractor.workers.pids():  # it reads the video
            assert not score.done()
        pipeline.close()
        with pytest.raises(RequestCancelledError, match="its pipeline was closed"):
            score.result()
    assert not pipeline.extractor.workers.pids() + pipeline.decoders.pids()

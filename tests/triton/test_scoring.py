"""The ensemble on the real server against the same engines in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.options import ScoreOptions
from groundserve.results import VideoInfo
from groundserve.serving import TritonServer
from python_backend.pipeline import Pipeline
from tests.triton.protocol import Protocol, texts, upload

QUERIES = ["When does the car stop?", "who is talking ✓"]
# Rule A at 20 frames a second: more than one chunk for each clip.
OPTIONS = ScoreOptions(sampling="infer", sample_fps=20, num_frames=150, top_k=5)


def assert_same(answer, expected):
    """The server's arrays equal a ScoreResult's bit for bit."""
    for name, array in {
        "FRAME_INDICES": expected.frame_indices,
        "PTS_SECONDS": expected.pts_seconds,
        "FRAME_LOGITS": np.stack([query.frame_logits for query in expected.queries]),
        "FRAME_SCORES": np.stack([query.frame_scores for query in expected.queries]),
        "SELECTED_FRAMES": np.stack([query.selected_frames for query in expected.queries]),
    }.items():
        assert answer[name].dtype == array.dtype, name
        np.testing.assert_array_equal(answer[name], array, err_msg=name)


def test_uploaded_video_scores_as_in_process(protocol, pipeline, clips):
    inputs = {
        "VIDEO": upload(clips["bikes"].read_bytes()),
        "QUERY": texts(*QUERIES),
        "OPTIONS": texts(OPTIONS.to_json()),
    }
    answer = protocol.infer("videoitg", inputs)
    expected = pipeline.score(clips["bikes"], QUERIES, OPTIONS)
    assert len(expected.frame_indices) > CHUNK_FRAMES
    assert_same(answer, expected)


def test_video_behind_a_uri_scores_as_in_process(protocol, pipeline, video_root):
    video = video_root / "carphone.mp4"
    inputs = {"VIDEO_URI": texts(video.as_uri()), "QUERY": texts(*QUERIES)}
    answer = protocol.infer("videoitg", inputs)
    assert_same(answer, pipeline.score(video, QUERIES))


def test_info_tells_of_the_video_and_of_every_stage(grpc, pipeline, video_root):
    inputs = {"VIDEO_URI": texts((video_root / "carphone.mp4").as_uri()), "QUERY": texts("cars")}
    info = VideoInfo.from_json(grpc.infer("videoitg", inputs)["INFO"][0])
    assert info.num_source_frames == 120
    assert info.engine == pipeline.manifest.identity
    assert info.video_bytes == (video_root / "carphone.mp4").stat().st_size
    assert list(info.timing_ms) == ["probe", "cut", "decode", "encode", "ground", "select"]
    assert all(milliseconds > 0 for milliseconds in info.timing_ms.values())
    local = pipeline.score(video_root / "carphone.mp4", "cars").info
    assert list(local.timing_ms) == [*info.timing_ms, "total"]
    assert replace(local, timing_ms=info.timing_ms) == info


def test_concurrent_requests_each_get_their_own_video(server, pipeline, clips):
    names = ["bikes", "bigbuckbunny", "carphone_pristine"] * 2

    def ask(name):
        protocol = Protocol("grpc", server.grpc_address)
        inputs = {
            "VIDEO": upload(clips[name].read_bytes()),
            "QUERY": texts(*QUERIES),
            "OPTIONS": texts(OPTIONS.to_json()),
        }
        try:
            return protocol.infer("videoitg", inputs)
        finally:
            protocol.client.close()

    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(ask, names))
    expected = {name: pipeline.score(clips[name], QUERIES, OPTIONS) for name in set(names)}
    for name, answer in zip(names, answers, strict=True):
        assert_same(answer, expected[name])


def test_torch_profile_scores_as_in_process(engine_dirs, clips, tmp_path):
    server = TritonServer(
        engine_dirs["torch"],
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        log_file=tmp_path / "tritonserver.log",
    )
    video = clips["carphone_pristine"]
    with server, Pipeline.open(engine_dirs["torch"]) as pipeline:
        protocol = Protocol("grpc", server.grpc_address)
        inputs = {"VIDEO": upload(video.read_bytes()), "QUERY": texts(*QUERIES)}
        assert_same(protocol.infer("videoitg", inputs), pipeline.score(video, QUERIES))
        protocol.client.close()


CLIENT = """
import sys
for name in ("av", "onnxruntime", "PIL", "python_backend", "pytriton", "tokenizers", "torch"):
    sys.modules[name] = None  # importing it fails
from groundserve import Client
with Client(sys.argv[1]) as client:
    print(client.score(sys.argv[2], "When?").queries[0].frame_logits.tolist())
"""


def test_a_client_needs_none_of_the_servers_packages(server, pipeline, clips):
    command = [sys.executable, "-c", CLIENT, f"grpc://{server.grpc_address}", clips["vfr"]]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = pipeline.score(clips["vfr"], "When?").queries[0].frame_logits
    assert json.loads(said.stdout) == expected.tolist()

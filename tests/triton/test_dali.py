"""DALI in the model `video_decode` of a real server, on the codecs it decodes on a CPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from groundserve.engines.manifest import MANIFEST_NAME, Manifest, hash_tree
from groundserve.options import ScoreOptions
from python_backend.decode import DaliDecoder
from tests.media_assets import H264, VP9, asset_maker
from tests.triton.serve import Server, serve

# What a GPU profile has, but for the device: frames and features as torch tensors through DLPack.
VIDEO_DECODE = """
import torch
from python_backend.decode import DaliDecoder, DecodedFrames
from python_backend.triton._context import ModelContext
from python_backend.triton.video_decode import TritonPythonModel as VideoDecode


class TorchFrames:
    def __init__(self, decoder):
        self.decoder = decoder

    def decode(self, segments, *, shown, deadline):
        decoded = self.decoder.decode(segments, shown=shown, deadline=deadline)
        return DecodedFrames((torch.from_numpy(decoded.frames),), decoded.decoder)


class TritonPythonModel(VideoDecode):
    def initialize(self, args):
        super().initialize(args)
        dali = DaliDecoder(
            image_size=ModelContext.load(args).engine.manifest.model.image_size,
            device="cpu",
            num_threads=2,
            fallback=self._decoder,
        )
        self._decoder = TorchFrames(dali)
"""
VISION_ENCODER = """
import torch
from python_backend.triton.vision_encoder import TritonPythonModel as VisionEncoder


class TorchFeatures:
    def __init__(self, encoder):
        self.encoder = encoder

    def encode(self, frames, pooling):
        return torch.from_numpy(self.encoder.encode(frames, pooling))


class TritonPythonModel(VisionEncoder):
    def initialize(self, args):
        super().initialize(args)
        self._encoder = TorchFeatures(self._encoder)
"""
OPTIONS = ScoreOptions(sampling="infer", sample_fps=25)


@pytest.fixture(scope="module")
def dali_server(engine_dirs, tmp_path_factory) -> Iterator[Server]:
    out = tmp_path_factory.mktemp("dali") / "engines"
    shutil.copytree(engine_dirs["cpu"], out)
    for name, code in (("video_decode", VIDEO_DECODE), ("vision_encoder", VISION_ENCODER)):
        (out / "model_repository" / name / "1" / "model.py").write_text(code)
    manifest = replace(Manifest.load(out), files=hash_tree(out))
    (out / MANIFEST_NAME).write_text(manifest.to_json(), "utf-8")
    with serve(out, out.parent / "tritonserver.log") as running:
        yield running


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    return asset_maker(tmp_path_factory.mktemp("media"))


def ask(server: Server, video: Path):
    answer = server.ask(video, "cars", sampling="infer", sample_fps=25)
    return answer, json.loads(answer["INFO"][0])


def test_vp9_is_decoded_by_dali_and_scores_as_in_process(dali_server, make, pipeline):
    answer, info = ask(dali_server, make(VP9))
    assert info["decoders"] == ["dali"]
    dali = DaliDecoder(
        image_size=pipeline.manifest.model.image_size,
        device="cpu",
        num_threads=1,
        fallback=pipeline.decoder,
    )
    expected = replace(pipeline, decoder=dali).score(make(VP9), ["cars"], OPTIONS)
    by_pyav = pipeline.score(make(VP9), ["cars"], OPTIONS)
    np.testing.assert_array_equal(answer["FRAME_INDICES"], by_pyav.frame_indices)
    np.testing.assert_array_equal(answer["FRAME_LOGITS"][0], expected.queries[0].frame_logits)
    assert not np.array_equal(answer["FRAME_LOGITS"][0], by_pyav.queries[0].frame_logits)


def test_what_dali_does_not_decode_scores_as_before_and_says_so(dali_server, make, pipeline):
    answer, info = ask(dali_server, make(H264))
    assert info["decoders"] == ["pyav (DALI on the CPU does not decode h264)"]
    expected = pipeline.score(make(H264), ["cars"], OPTIONS)
    np.testing.assert_array_equal(answer["FRAME_LOGITS"][0], expected.queries[0].frame_logits)

"""Grounded-VideoLLM from a file to features, against what its reference computed of the same files.

What the towers compute is proved stage by stage in tests/unit/families/grounded_videollm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from engine_build.onnx_export import export_vision_encoder
from groundserve.deadline import Deadline
from groundserve.families import get_family
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.options import AnswerOptions
from python_backend.decode import PyAVDecoder
from python_backend.encode import EncodeFunction, OnnxRuntimeEncoder, TorchEncoder
from python_backend.features import FeatureExtractor
from python_backend.meter import Counts
from tests.unit.families.grounded_videollm.checkpoints import opened
from tests.unit.families.grounded_videollm.recorded import FOLDER, LLMS, RECORDED

FAMILY: Any = get_family("grounded_videollm")


@cache
def spec_of(llm: str) -> Any:
    return opened(llm).model_spec(pad_token_id=0)


@cache
def recorded(llm: str) -> dict[str, dict[str, Any]]:
    """Return of each video what the first float32 case recorded that has it to itself."""
    found: dict[str, dict[str, Any]] = {}
    for case in RECORDED["cases"]:
        item = case["items"][0]
        if (case["llm"], case["precision"], case["batch"]) == (llm, "fp32", 1):
            found.setdefault(item["video"], {**item, "tokens": case["stages"]["visual_tokens"]})
    return found


OF_CLIPS = [
    pytest.param(llm, video, id=f"{llm}-{video}")
    for llm in LLMS
    for video in recorded(llm)
    if video != "formula"
]


@dataclass
class Extracted:
    """What one video became, and what that took."""

    features: NDArray[np.float32]
    frame_indices: list[int]
    counts: Counts
    work: dict[str, int]


@pytest.fixture(scope="module")
def extract(clips: dict[str, Path]):
    paths = {**clips, "short_50f": FOLDER / "clips" / "short_50f.mp4"}
    limits = Limits()

    def extract(llm: str, video: str, encode: EncodeFunction) -> Extracted:
        counts, deadline, spec = Counts(), Deadline.after(300), spec_of(llm)
        manifest = SimpleNamespace(seam=FAMILY, model=spec, identity={})
        # Anew for each video: what it took is counted.
        with (
            MediaWorkers(limits=limits) as readers,
            MediaWorkers(limits=limits) as workers,
            VideoSource.from_path(paths[video], limits=limits) as source,
        ):
            streams = VisionInputs.of(FAMILY, spec).streams
            decoder = PyAVDecoder(workers, streams=streams, meter=counts)
            extractor = FeatureExtractor(
                workers=readers, manifest=manifest, limits=limits, cache=None, meter=counts
            )
            result = extractor.extract(
                source,
                AnswerOptions(),
                asked=None,
                decode=lambda segments, shown: decoder.decode(
                    segments, shown=shown, deadline=deadline
                ),
                encode=encode,
                deadline=deadline,
            )
            return Extracted(
                np.asarray(result.features),
                result.frame_indices.tolist(),
                counts,
                workers.work_done(),
            )

    return extract


@cache
def torch_encoder(llm: str) -> TorchEncoder:
    return TorchEncoder(opened(llm).load_vision())


@pytest.fixture(scope="module")
def onnx_path(tmp_path_factory: pytest.TempPathFactory):
    @cache
    def export(llm: str) -> Path:
        path = tmp_path_factory.mktemp("grounded_videollm") / f"{llm}.onnx"
        inputs = VisionInputs.of(FAMILY, spec_of(llm))
        export_vision_encoder(opened(llm).load_vision(), path, inputs)
        return path

    return export


@pytest.fixture(scope="module")
def onnx_encoder(onnx_path):
    return cache(lambda llm: OnnxRuntimeEncoder(onnx_path(llm), num_threads=2))


@pytest.mark.parametrize(("llm", "video"), OF_CLIPS)
def test_features_in_pytorch_are_the_recorded_ones(extract, llm, video):
    check_features(extract(llm, video, torch_encoder(llm).encode), llm, video)


@pytest.mark.parametrize("llm", LLMS)
def test_features_of_the_graph_are_the_recorded_ones(extract, onnx_encoder, llm):
    check_features(extract(llm, "short_50f", onnx_encoder(llm).encode), llm, "short_50f")


def check_features(extracted: Extracted, llm: str, video: str) -> None:
    item, spec = recorded(llm)[video], spec_of(llm)
    assert extracted.frame_indices == item["frame_indices"]
    features = extracted.features
    assert features.shape == (12, spec.tokens_per_segment, spec.feature_width)
    values, expected = features.astype(np.float64).ravel(), item["tokens"]
    assert [1, features.shape[0] * features.shape[1], features.shape[2]] == expected["shape"]
    # Seven digits are recorded, of values up to 8; float32 may take a segment's 6e-5 away.
    np.testing.assert_allclose(
        values[expected["probe_index"]], expected["probe_value"], rtol=0, atol=1e-4
    )
    assert np.linalg.norm(values) == pytest.approx(expected["l2"], rel=1e-6)
    ordered = (values * np.cos(0.37 * np.arange(len(values)))).sum() / len(values) ** 0.5
    assert ordered == pytest.approx(expected["ordered"], abs=1e-6 * expected["l2"])
    # Each frame is decoded once, however often it is shown.
    frames = item["frame_indices"]
    assert extracted.counts["frames_decoded"] == len(set(frames))
    # And resized once for each tower that sees it.
    keys = {frames[place] for place in item["key_frame_positions"]}
    assert extracted.work["frames_converted"] == len(set(frames)) + len(keys)


@pytest.mark.parametrize("llm", LLMS)
def test_attention_of_both_towers_is_fused_in_the_graph(onnx_path, llm):
    graph = onnx.load(onnx_path(llm)).graph
    operators = [node.op_type for node in graph.node]
    vision = opened(llm).load_vision()
    assert operators.count("MultiHeadAttention") == len(vision.layers) == 5
    assert "Softmax" not in operators
    assert not {"Conv", "Einsum"} & set(operators)

"""Everything the reference implementation recorded, against the in-process pipeline.

Tolerances are on float32 logits that were recorded with six decimals. torch: 1e-5, the order of
additions in fused attention. ONNX Runtime: 2e-5, other kernels on top; the reference itself is up
to 1.8e-5 away from float64 on the cases with one token a frame, where logits reach 9.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from engine_build import build
from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError
from groundserve.grid import grid_side
from groundserve.limits import Limits
from groundserve.modeling.checkpoint import Checkpoint
from groundserve.prompts import QueryTokenizer
from groundserve.sampling import sample_frames
from python_backend.pipeline import Pipeline
from tests.reference import ALL_CASES, CHECKPOINTS, SET_1_CASES, SET_2_CASES, ReferenceCase

TOLERANCE = {"torch": 1e-5, "cpu": 2e-5}
DEADLINE_SECONDS = 120.0


@cache
def tokenizer_of(checkpoint: Path) -> QueryTokenizer:
    tokenizer, pad_token_id = Checkpoint.open(checkpoint).load_tokenizer()
    return QueryTokenizer(tokenizer, pad_token_id=pad_token_id)


def is_cut_by_the_reference(case: ReferenceCase) -> bool:
    """Tell whether visual and text tokens pass the limit, where the reference cuts the text."""
    config = Checkpoint.open(case.checkpoint).config
    side = Checkpoint.open(case.checkpoint).vision_config.image_size // 14
    num_frames = len(case.frame_indices)
    grid = grid_side(num_frames, vision_token_num=config.vision_token_num, side=side)
    assert config.tokenizer_model_max_length is not None
    num_text = len(tokenizer_of(case.checkpoint).text_ids(case.query))
    return num_frames * grid * grid + num_text > config.tokenizer_model_max_length


def test_the_sets_are_complete():
    assert (len(SET_1_CASES), len(SET_2_CASES)) == (24, 84)
    assert sum(is_cut_by_the_reference(case) for case in ALL_CASES) == 4


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.label)
def test_frame_indices_and_tokens_are_equal(case):
    indices = sample_frames(
        case.num_source_frames,
        case.fps,
        sampling=case.sampling,
        sample_fps=case.sample_fps,
        num_frames=case.num_frames,
    )
    assert indices.tolist() == case.frame_indices
    tokenizer = tokenizer_of(case.checkpoint)
    assert tokenizer.input_ids(case.query) == case.input_ids
    if case.kept_ids is not None:
        assert [-200, *tokenizer.text_ids(case.query)] == case.kept_ids


@pytest.fixture(scope="module", params=["torch", "cpu"])
def profile(request):
    return request.param


@pytest.fixture(scope="module")
def pipelines(profile, tmp_path_factory):
    root = tmp_path_factory.mktemp(f"engines-{profile}")
    opened = {}
    for checkpoint in CHECKPOINTS:
        build(checkpoint, root / checkpoint.name, profile=profile)
        opened[checkpoint] = Pipeline.open(root / checkpoint.name)
    yield opened
    for pipeline in opened.values():
        pipeline.close()


@pytest.fixture(scope="module")
def features_of(pipelines, clips):
    """Decode and encode each (checkpoint, video, sampling) once."""

    @cache
    def features(checkpoint, video, options):
        deadline = Deadline.after(DEADLINE_SECONDS)
        return pipelines[checkpoint].features(clips[video], options, deadline=deadline)

    return features


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.label)
def test_logits_are_the_references(case, profile, pipelines, features_of):
    extracted = features_of(case.checkpoint, case.video, case.options)
    assert extracted.frame_indices.tolist() == case.frame_indices
    assert extracted.stage_info["num_source_frames"] == case.num_source_frames
    assert extracted.stage_info["fps"] == case.fps
    if case.grid is not None:
        assert extracted.stage_info["grid"] == case.grid
    pipeline = pipelines[case.checkpoint]
    deadline = Deadline.after(DEADLINE_SECONDS)
    if is_cut_by_the_reference(case):
        # Ours refuses what the reference silently cuts...
        with pytest.raises(InvalidRequestError, match=r"483 tokens|482 tokens"):
            pipeline.ground(extracted.features, [case.query], deadline=deadline)
        # ...and agrees with it on the text that it kept.
        text_ids = pipeline.tokenizer.text_ids(case.query)
        num_visual = extracted.features.shape[0] * extracted.features.shape[1]
        kept = text_ids[: pipeline.manifest.model.max_tokens - num_visual]
        logits = pipeline.grounder.ground(extracted.features, kept)
    else:
        (logits,) = pipeline.ground(extracted.features, [case.query], deadline=deadline)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, case.logits, atol=TOLERANCE[profile], rtol=0)


def unique_frame_sets() -> list[ReferenceCase]:
    seen = {(case.video, tuple(case.frame_indices)): case for case in SET_2_CASES}
    return list(seen.values())


@pytest.mark.parametrize("case", unique_frame_sets(), ids=lambda case: case.label)
def test_decoded_and_resized_frames_are_bit_equal(case, clips):
    from groundserve.media import MediaWorkers, VideoSource

    limits = Limits()
    deadline = Deadline.after(DEADLINE_SECONDS)
    size = Checkpoint.open(case.checkpoint).vision_config.image_size
    with (
        MediaWorkers(limits=limits) as workers,
        VideoSource.from_path(clips[case.video], limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        segments = video.cut(np.array(case.frame_indices))
        frames = video.decode(segments)
        resized = video.decode(segments, image_size=size)
    assert hashlib.sha256(frames.tobytes()).hexdigest() == case.frames_sha256
    channels_first = np.ascontiguousarray(resized.transpose(0, 3, 1, 2))
    assert hashlib.sha256(channels_first.tobytes()).hexdigest() == case.resized_sha256

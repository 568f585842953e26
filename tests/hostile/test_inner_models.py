"""Ceilings of the service, asked of its inner models alone: the refusal names what breaks which."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.hostile.test_tensors import GROUNDING, INTACT, SEGMENTS, SELECTION, stream
from tests.media_assets import ONE_FRAME
from tests.media_assets.boxes import announcing
from tests.triton.protocol import RejectedError, texts, upload


def selection(num_queries: int, num_frames: int, **changes):
    return {
        **SELECTION,
        "FRAME_LOGITS": np.zeros((num_queries, num_frames), np.float32),
        "FRAME_INDICES": np.arange(num_frames),
        "PTS_SECONDS": np.arange(float(num_frames)),
        **changes,
    }


def segments(num_targets: int, num_segments: int):
    local_frames = np.zeros(num_targets, np.int32)
    return {
        "SEGMENTS": upload(bytes(num_segments)),
        "SEGMENT_OFFSETS": np.arange(num_segments + 1),
        "LOCAL_FRAMES": local_frames,
        "LOCAL_OFFSETS": np.arange(num_segments + 1),
        "STREAM": stream(frame_counts=[1] * min(num_segments, 100)),
    }


def features(num_frames: int, num_tokens: int):
    return {**GROUNDING, "FEATURES": np.zeros((num_frames, num_tokens, 48), np.float32)}


def info(text: str):
    return {**SELECTION, "STAGE_INFO_2": texts(text)}


CASES = {
    # 560 kB that held the model for 28 s.
    "select_long_video": (
        "frame_selector",
        selection(5, 28_000, OPTIONS=texts('{"top_k": 14000, "selector": "inverse_transform"}')),
        "T of FRAME_LOGITS (Q, T) must be 1 to 1024, got 28000",
    ),
    "select_many_questions": (
        "frame_selector",
        selection(33, 3),
        "Q of FRAME_LOGITS (Q, T) must be 1 to 32, got 33",
    ),
    "select_no_questions": (
        "frame_selector",
        selection(0, 3),
        "Q of FRAME_LOGITS (Q, T) must be 1 to 32, got 0",
    ),
    "select_no_frames": (
        "frame_selector",
        selection(1, 0),
        "T of FRAME_LOGITS (Q, T) must be 1 to 1024, got 0",
    ),
    "select_fewer_indices": (
        "frame_selector",
        selection(1, 3, FRAME_INDICES=np.arange(2)),
        "FRAME_INDICES must have one entry for each of 3 columns of FRAME_LOGITS, got 2",
    ),
    "select_more_times": (
        "frame_selector",
        selection(1, 3, PTS_SECONDS=np.arange(4.0)),
        "PTS_SECONDS must have one entry for each of 3 columns of FRAME_LOGITS, got 4",
    ),
    "select_indices_fall": (
        "frame_selector",
        selection(1, 3, FRAME_INDICES=np.array([0, 2, 1])),
        "FRAME_INDICES must be >= 0 and increase",
    ),
    # The difference of neighbours overflows to a number above 0.
    "select_indices_fall_far": (
        "frame_selector",
        selection(1, 3, FRAME_INDICES=np.array([0, 2**63 - 1, -(2**63)])),
        "FRAME_INDICES must be >= 0 and increase",
    ),
    "select_nan": (
        "frame_selector",
        selection(1, 3, FRAME_LOGITS=np.full((1, 3), np.nan, np.float32)),
        "FRAME_LOGITS must be finite",
    ),
    "select_infinite": (
        "frame_selector",
        selection(1, 3, FRAME_LOGITS=np.array([[0, np.inf, 0]], np.float32)),
        "FRAME_LOGITS must be finite",
    ),
    "select_long_options": (
        "frame_selector",
        selection(1, 3, OPTIONS=texts(" " * 10**6)),
        "OPTIONS must be at most 4096 bytes, got 1000000",
    ),
    "select_long_info": (
        "frame_selector",
        info(" " * 10**6),
        "STAGE_INFO_2 must be at most 65536 bytes, got 1000000",
    ),
    "select_deep_info": (
        "frame_selector",
        info('{"timing_ms":' + "[" * 60_000),
        "STAGE_INFO_2 must be one JSON object in UTF-8",
    ),
    "select_deadline_of_400_digits": (
        "frame_selector",
        info('{"timing_ms": {}, "deadline_monotonic_seconds": 1' + "0" * 400 + "}"),
        "STAGE_INFO_2 must be what the step before answered",
    ),
    "ground_many_frames": (
        "grounding",
        features(1025, 1),
        "T of FEATURES (T, g*g, D_v) must be 1 to 1024, got 1025",
    ),
    "ground_no_frames": (
        "grounding",
        features(0, 1),
        "T of FEATURES (T, g*g, D_v) must be 1 to 1024, got 0",
    ),
    "ground_no_grid": (
        "grounding",
        features(3, 3),
        "FEATURES (T, g*g, D_v) must have g from 1 to 8, got 3 tokens a frame",
    ),
    "ground_large_grid": (
        "grounding",
        features(1, 81),
        "FEATURES (T, g*g, D_v) must have g from 1 to 8, got 81 tokens a frame",
    ),
    "ground_past_the_budget": (
        "grounding",
        features(1024, 64),
        "FEATURES must have at most {vision_token_num} visual tokens, got 1024 x 64",
    ),
    "ground_many_questions": (
        "grounding",
        {**GROUNDING, "QUERY": texts(*[""] * 200_000)},
        "QUERY must hold 1..32 questions, got 200000",
    ),
    "ground_much_text": (
        "grounding",
        {**GROUNDING, "QUERY": texts(*["x" * 16 * 1024] * 3)},
        "QUERY must be at most 24576 bytes in all (max_text_bytes), got 49152",
    ),
    "decode_many_targets": (
        "video_decode",
        {**SEGMENTS, "LOCAL_FRAMES": np.arange(65, dtype=np.int32)},
        "the targets in LOCAL_FRAMES (m,) must be 1 to 64, got 65",
    ),
    "decode_no_targets": (
        "video_decode",
        {**SEGMENTS, "LOCAL_FRAMES": np.zeros(0, np.int32)},
        "the targets in LOCAL_FRAMES (m,) must be 1 to 64, got 0",
    ),
    "decode_many_segments": (
        "video_decode",
        segments(64, 10**6),
        "the segments of SEGMENT_OFFSETS (n+1,) must be 1 to 64, got 1000000",
    ),
    "decode_wide": (
        "video_decode",
        {**SEGMENTS, "STREAM": stream(width=8193)},
        "width of STREAM must be 1 to 8192, got 8193",
    ),
    "decode_high": (
        "video_decode",
        {**SEGMENTS, "STREAM": stream(height=60_000)},
        "height of STREAM must be 1 to 8192, got 60000",
    ),
    "decode_more_frames_than_bytes": (
        "video_decode",
        {**SEGMENTS, "STREAM": stream(frame_counts=[11])},
        "a segment does not hold the 11 frames announced in STREAM",
    ),
    "decode_fields_twice": (
        "video_decode",
        {**SEGMENTS, "STREAM": texts(json.dumps({"width": 1})[:-1] + ', "width": 2}')},
        'STREAM must hold each key once, got "width" twice',
    ),
    "decode_one_field_of_3000_digits": (
        "video_decode",
        {**SEGMENTS, "STREAM": texts('{"width": ' + "9" * 3000 + "}")},
        "a stream's description must be an object of",
    ),
    "decode_long_stream": (
        "video_decode",
        {**SEGMENTS, "STREAM": texts(" " * 10**6)},
        "STREAM must be at most 4096 bytes, got 1000000",
    ),
    "encode_infinite": (
        "vision_encoder",
        {**INTACT["vision_encoder"], "POOL": np.full((2, 2, 8), np.inf, np.float32)},
        "POOL must be finite and the same for all frames",
    ),
    "features_long_uri": (
        "video_features",
        {"VIDEO_URI": texts("file:///" + "x" * 10**6)},
        "VIDEO_URI must be at most 16384 bytes, got 1000008",
    ),
    "features_many_questions": (
        "video_features",
        {"VIDEO": upload(b"x"), "QUERY": texts(*[""] * 200_000)},
        "QUERY must hold 1..32 questions, got 200000",
    ),
    "features_much_text": (
        "video_features",
        {"VIDEO": upload(b"x"), "QUERY": texts(*["x" * 1025] * 32)},
        "QUERY must be at most 24576 bytes in all (max_text_bytes), got 32800",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refusal_names_the_tensor_the_rule_and_the_value(name, judge, vision_token_num):
    model, inputs, message = CASES[name]
    answer = judge.ask(model, inputs)
    message = message.format(vision_token_num=vision_token_num)
    assert isinstance(answer, RejectedError), "an answer, not a refusal"
    assert answer.code == "INVALID_ARG"
    assert message in answer.message


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("frame_selector", selection(32, 1024, OPTIONS=texts('{"top_k": 1023}'))),
        ("grounding", {**GROUNDING, "QUERY": texts(*["When? " * 100] * 32)}),
    ],
)
def test_what_keeps_to_every_ceiling_is_answered(model, inputs, judge):
    answer = judge.ask(model, inputs)
    assert not isinstance(answer, RejectedError), answer


def test_segment_that_announces_millions_of_packets_is_refused(judge, make_asset):
    file = announcing(make_asset(ONE_FRAME).read_bytes(), 60 * 10**6)
    answer = judge.ask(
        "video_decode",
        {
            "SEGMENTS": upload(file),
            "SEGMENT_OFFSETS": np.array([0, len(file)]),
            "LOCAL_FRAMES": np.array([0], np.int32),
            "LOCAL_OFFSETS": np.array([0, 1]),
            "STREAM": stream(frame_counts=[1]),
        },
    )
    assert isinstance(answer, RejectedError)
    assert answer.code == "INVALID_ARG"


@pytest.fixture(scope="module")
def vision_token_num(engine_dirs) -> int:
    manifest = json.loads((engine_dirs["cpu"] / "manifest.json").read_text())
    return manifest["model"]["vision_token_num"]

"""Videos that are damaged, lie, or point elsewhere."""

from __future__ import annotations

import re

import pytest

from tests.media_assets import (
    AV1_MKV,
    DAY_LONG,
    FAST,
    FRAGMENTED,
    H264,
    H264_MKV,
    H264_TS,
    HEVC_422_TEN_BIT,
    HEVC_TS,
    HUGE_GAPS,
    INTERLACED,
    MJPEG_AVI,
    MPEG2_TS,
    MPEG4_AVI,
    REFUSED,
    ROTATED,
    VFR,
    VP8,
    VP9,
    Asset,
)
from tests.media_assets.crafted import CRAFTED, Crafted
from tests.media_assets.mutation import mutate
from tests.triton.protocol import RejectedError, upload

UNUSUAL = (VP8, H264_TS, FRAGMENTED, ROTATED, VFR, FAST, INTERLACED, HEVC_422_TEN_BIT)
MUTATED = (
    H264, FRAGMENTED, HEVC_TS, AV1_MKV, VP9, VP8, H264_MKV, MJPEG_AVI, MPEG4_AVI, H264_TS, MPEG2_TS
)  # fmt: skip
SEEDS = range(2)


def name_of(value: object) -> str:
    return value.name if isinstance(value, Asset | Crafted) else ""


@pytest.mark.parametrize("asset", UNUSUAL, ids=name_of)
def test_unusual_videos_are_answered(asset, judge, make_asset):
    answer = judge.ask_changed(VIDEO=upload(make_asset(asset).read_bytes()))
    assert not isinstance(answer, RejectedError), answer
    assert answer["FRAME_LOGITS"].shape == (1, len(answer["FRAME_INDICES"]))


@pytest.mark.parametrize(("asset", "message"), REFUSED.items(), ids=name_of)
def test_other_media_is_refused(asset, message, judge, make_asset):
    assert re.search(message, judge.refusal(VIDEO=upload(make_asset(asset).read_bytes())))


@pytest.mark.parametrize("crafted", CRAFTED, ids=name_of)
def test_crafted_files_give_frames_or_the_refusal(crafted, judge, make_asset):
    path = make_asset(crafted.source)
    video = upload(crafted.make(path.read_bytes(), path))
    if crafted.refusal:
        assert re.search(crafted.refusal, judge.refusal(VIDEO=video))
    else:
        answer = judge.ask_changed(VIDEO=video)
        assert not isinstance(answer, RejectedError), answer


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("asset", MUTATED, ids=name_of)
def test_mutated_files_give_frames_or_a_refusal(asset, seed, judge, make_asset):
    answer = judge.ask_changed(VIDEO=upload(mutate(make_asset(asset).read_bytes(), seed)))
    assert not isinstance(answer, RejectedError) or answer.code == "INVALID_ARG", answer


@pytest.mark.parametrize("num_bytes", [1, 5_000])
def test_half_an_upload_is_refused(num_bytes, judge, make_asset):
    judge.refusal(VIDEO=upload(make_asset(H264).read_bytes()[:num_bytes]))


def test_days_are_refused_and_hours_are_not(judge, make_asset):
    judge.refusal(VIDEO=upload(make_asset(DAY_LONG).read_bytes()))
    hours = judge.ask_changed(VIDEO=upload(make_asset(HUGE_GAPS).read_bytes()), OPTIONS=None)
    assert isinstance(hours, RejectedError) or hours["PTS_SECONDS"][-1] < 6 * 3600

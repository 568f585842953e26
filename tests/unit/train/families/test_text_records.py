"""Records of the families that answer in text: as published, and what is refused and why."""

import json
import random
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from groundserve.errors import InvalidRequestError
from tests.unit.train.runs import read_data
from tests.unit.train.text_runs import FIXTURES, VTIMELLM, make_config
from train.data import TrainingData
from train.families import find_family, stage_family
from train.families.grounded_videollm.samples import write_times
from train.families.text_reader import read_features
from train.families.vtgllm.samples import crop, draw_crop, draw_frames
from train.families.vtimellm.samples import step_of

PARSE = {
    "vtimellm": stage_family("vtimellm-2").parse_record,
    "grounded": stage_family("grounded-videollm-sft").parse_record,
    "vtgllm": stage_family("vtgllm-instruct").parse_record,
}
ASKED = {"from": "human", "value": "<video>\nWhen?"}
ANSWER = {"from": "gpt", "value": "From <s0> to <e0>."}
TIMELESS = {"from": "gpt", "value": "A cat."}
META = {"duration": 50, "token": {"<s0>": 0, "<e0>": 49.9}, "split": [10, 60]}


def test_times_are_written_and_a_clip_is_kept():
    fields = {"id": "a", "conversations": [ASKED, ANSWER], "meta": META}
    record = PARSE["vtimellm"](fields, name="a")
    assert record.messages[1].text == "From 00 to 99."
    assert record.clip_seconds == (10.0, 60.0)
    assert (record.media.kind, record.media.path) == ("features", "a.npy")
    image = PARSE["vtimellm"]({"image": "c.jpg", "conversations": [ASKED, TIMELESS]}, name="a")
    assert (image.media.kind, image.media.path) == ("image", "c.jpg")
    decoded = PARSE["vtimellm"]({**fields, "video": "b.mp4"}, name="a")
    assert (decoded.media.kind, decoded.media.path) == ("video", "b.mp4")


def test_a_time_is_rounded_to_even_hundredths():
    assert [step_of(one, 200) for one in (1, 3, 5, 199.9)] == ["00", "02", "02", "99"]


def test_seconds_are_cut_to_steps():
    text = "<3.333> <3.3333334> <9.99> <12.5> <.5> <-1>"
    assert write_times(text, 10.0) == "<99> <100> <299> <300> <.5> <-30>"


@pytest.mark.parametrize(
    ("family", "fields", "rule"),
    [
        ("vtimellm", [], "a record must be an object, got list"),
        ("vtimellm", {"id": "a"}, "conversations must be a list of at least two messages"),
        ("vtimellm", {"conversations": [ASKED, TIMELESS]}, "id is missing"),
        (
            "vtimellm",
            {"id": "../a", "conversations": [ASKED, TIMELESS]},
            "id must be a path below the media root",
        ),
        (
            "vtimellm",
            {"id": "a", "conversations": [ASKED, ANSWER], "meta": {**META, "duration": 0}},
            "meta.duration must be seconds above 0, got 0",
        ),
        (
            "vtimellm",
            {"id": "a", "conversations": [ASKED, ANSWER], "meta": {**META, "token": {"<s0>": "1"}}},
            "meta.token must be",
        ),
        (
            "vtimellm",
            {"id": "a", "conversations": [ASKED, ANSWER], "meta": {**META, "split": [1]}},
            "meta.split must be",
        ),
        (
            "vtimellm",
            {"id": "a", "conversations": [ASKED, ANSWER], "meta": {**META, "token": {"<s0>": -4}}},
            "none below 0",
        ),
        (
            "vtimellm",
            {"id": "a", "conversations": [ASKED, ANSWER], "meta": {**META, "token": {"<s0>": 1}}},
            "meta.token must have the seconds of <e0>",
        ),
        (
            "vtimellm",
            {"id": "a", "conversations": [ASKED, ANSWER]},
            "meta.token must have the seconds of <s0>",
        ),
        ("grounded", {"conversation": [ASKED, ANSWER]}, "video_file must be text, got NoneType"),
        (
            "grounded",
            {"video_file": "a.mp4", "conversation": [ASKED, ANSWER, ASKED]},
            "conversation must have human and gpt in turn, and end with gpt",
        ),
        ("vtgllm", [], "a record must be an object, got list"),
        ("vtgllm", {"video": "a.mp4", "QA": []}, "QA must be a list of"),
        ("vtgllm", {"QA": [{"q": "When?", "a": "Now."}]}, "video must be text, got NoneType"),
        ("vtgllm", {"video": "a.mp4", "QA": [{"q": "When?"}]}, "a of QA must be text"),
    ],
)
def test_a_record_that_breaks_the_format_is_refused(family, fields, rule):
    with pytest.raises(InvalidRequestError, match=rule):
        PARSE[family](fields, name="r")


def test_what_cannot_be_used_is_named_and_counted(tmp_path):
    """Of a conversation: where its answer begins cannot be told. Of features: a damaged file."""
    records = [
        {"id": "image_0", "conversations": [ASKED, {"from": "gpt", "value": text}]}
        for text in ("A cat.", "A </s> cat.", "A cat ASSISTANT: no.", "")
    ]
    records += [{"id": "b", "conversations": [ASKED, TIMELESS]}, {"id": "c"}]
    (tmp_path / "records.json").write_text(json.dumps(records))
    np.save(tmp_path / "image_0.npy", np.load(VTIMELLM / "features" / "image_0.npy"))
    (tmp_path / "b.npy").write_bytes(b"no array")
    config = make_config("vtimellm-2", tmp_path / "out")
    data = replace(config.data, records=tmp_path / "records.json", media_root=tmp_path)
    config = replace(config, data=data)
    samples = find_family(None, config.stage).open_source(config).samples(config)
    with TrainingData(data, stage=config.stage, samples=samples, seed=0) as opened:
        readings = [opened.read(number) for number in range(len(opened))]
    assert readings[0].example is not None
    reasons = [one.unreadable[0].reason for one in readings[1:]]
    assert all("cannot be told" in one for one in reasons[:3])
    assert "cannot read the features" in reasons[3]
    assert reasons[4].startswith("conversations must be a list")
    sources = [one.unreadable[0].source for one in readings[1:]]
    assert sources[3] == "b.npy, record b"


def test_what_is_decoded_gives_the_recorded_features(tmp_path):
    """A video, of frames of any size; an image is one such frame."""
    video = VTIMELLM / "videos" / "portrait_57.mp4"
    Image.new("RGB", (40, 20), (200, 10, 10)).save(tmp_path / "a.png")
    (tmp_path / "b.mp4").symlink_to(video)
    records = [
        {"image": "a.png", "conversations": [ASKED, TIMELESS]},
        {"id": "b", "video": "b.mp4", "conversations": [ASKED, TIMELESS]},
    ]
    (tmp_path / "records.json").write_text(json.dumps(records))
    config = make_config("vtimellm-2", tmp_path / "out")
    data = replace(config.data, records=tmp_path / "records.json", media_root=tmp_path)
    config = replace(config, data=data, batch_size=2)
    initial = find_family(None, config.stage).open_initial(config, num_auxiliary=0)
    with read_data(config, initial) as opened:
        image, video = (reading.example for reading in opened.readings([0, 1]))
    of_image, of_video = initial.encode([image, video])
    assert (image.frames.shape, of_image.shape) == ((1, 20, 40, 3), (1, 1, 32))
    recorded = np.load(VTIMELLM / "features" / "portrait_57.npy")
    np.testing.assert_allclose(of_video[:, 0], recorded, atol=1e-4, rtol=0)
    assert initial.model([image, video], [of_image, of_video]).loss.isfinite()


@pytest.mark.parametrize("num_source_frames", [1, 15, 16, 17, 41])
def test_a_frame_is_drawn_of_each_span(num_source_frames):
    """But for their last ones; where a span has no others any are drawn, as in the reference."""
    drawn = [
        draw_frames(num_source_frames, num_frames=8, rng=random.Random(seed)).tolist()
        for seed in range(300)
    ]
    num_drawn = min(8, num_source_frames)
    assert all(one == sorted(set(one)) and len(one) == num_drawn for one in drawn)
    ends = [num_source_frames * i // num_drawn for i in range(num_drawn + 1)]
    spans = [set(range(first, behind - 1)) for first, behind in pairwise(ends)]
    if all(spans):
        assert [set(place) for place in zip(*drawn, strict=True)] == spans
    else:
        assert set(chain(*drawn)) == set(range(num_source_frames))


def test_a_crop_is_the_references():
    noise = np.random.RandomState(0).randint(0, 256, (2, 24, 24, 3)).astype(np.uint8)
    recorded = json.loads((FIXTURES / "training_ref" / "vtgllm" / "cropped.json").read_text())
    apart = np.abs(crop(noise, 3, 5, 17, 19).astype(int) - np.array(recorded))
    # A sum in another order may fall on the other side of a whole number; bytes wrap around.
    assert np.isin(apart, (0, 1, 255)).all()
    assert (apart > 0).mean() < 0.01


def test_crops_are_drawn_within_a_frame():
    crops = np.array([draw_crop(224, random.Random(seed)) for seed in range(2000)])
    top, left, height, width = crops.T
    assert crops.min() == 0
    assert (top + height).max() == (left + width).max() == 224
    rounding = 2 / height.min()
    area = height * width / 224**2
    assert (area.min(), area.max()) == pytest.approx((0.5, 1.0), abs=rounding)
    assert 3 / 4 - rounding < (width / height).min() < (width / height).max() < 4 / 3 + rounding


def test_what_training_draws_follows_from_the_epoch(tmp_path):
    """Frames, their times and a crop; where nothing is trained they are those of serving."""
    config = make_config("vtgllm-instruct", tmp_path)
    samples = find_family(None, config.stage).open_source(config).samples(config)
    with TrainingData(config.data, stage=config.stage, samples=samples, seed=1) as opened:
        first, again, other = (opened.read(0, epoch=epoch).example for epoch in (0, 0, 1))
        served = opened.read(0, is_training=False).example
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.texts[0].ids, again.texts[0].ids)
    assert not np.array_equal(first.frames, other.frames)
    assert not np.array_equal(first.texts[0].ids, other.texts[0].ids)
    assert served.num_tokens == 16 + len(served.texts[0].ids) - 1


def test_branches_of_a_frozen_tower_are_left_out_in_training_alone(tmp_path):
    """As in the reference; what is left out follows from the seed of the batch."""
    config = make_config("grounded-videollm-pretrain phi3.5", tmp_path)
    initial = find_family(None, config.stage).open_initial(config, num_auxiliary=0)
    with read_data(config, initial) as opened:
        examples = [opened.read(0).example]

    def encode(seed):
        torch.manual_seed(seed)
        return initial.encode(examples)[0]

    trained = [encode(seed) for seed in (1, 1, 2)]
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])
    initial.model.eval()
    assert torch.equal(encode(1), encode(2))
    initial.vision.leaves_out_branches = True
    ones = torch.ones(4000, 1, 1)
    kept = initial.vision._leave_out(0.25, None, None, ones)
    assert set(kept.flatten().tolist()) == {0.0, float(1 / torch.tensor(0.75))}
    assert kept.mean().item() == pytest.approx(1, abs=0.05)


def test_features_are_finite_floats(tmp_path):
    assert read_features(VTIMELLM / "features" / "image_0.npy").shape == (1, 1, 32)
    for values in (np.zeros((2, 2), int), np.full((2, 2), np.nan), np.zeros((1, 2, 3))):
        np.save(tmp_path / "a.npy", values)
        with pytest.raises(InvalidRequestError, match=r"a\.npy' must be"):
            read_features(tmp_path / "a.npy")

"""Losses, gradients and weights of steps that the references' own training took.

Both sides compute in float64, but for what either rounds to float32 on the way: norms, angles, and
on the reference's side logits. What float32 throughout makes of its gradients and weights was
recorded, and is the bound.
"""

import json
import random
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from groundserve.families.grounded_videollm.vision import pool_temporal
from groundserve.families.plans import SeenVideo
from groundserve.media.index import VideoIndex
from groundserve.weights.torch_archive import read_torch_file
from tests.fixtures.training_ref.digests import difference, differences, digest, drawn
from tests.fixtures.training_ref.vtgllm.before import VIDEOS, frame, scale_of
from tests.unit.train.text_runs import FIXTURES, recorded_config
from train.data import TrainingData
from train.examples import Example
from train.families import find_family
from train.families.vtgllm import family as vtgllm
from train.optimizer import new_optimizer, rate_factor, set_learning_rates

RECORDED = {
    name: stage
    for path in sorted((FIXTURES / "training_ref").glob("*/steps.json"))
    for name, stage in json.loads(path.read_text()).items()
}
PLACEHOLDER_ROW = 600  # of VTG-LLM's `<ImageHere>`, drawn
SECONDS, WIDTH = 10.0, 32
"""Length of Grounded-VideoLLM's video, and width of both of its towers."""
# Logit, exponential, logarithm and mean, which the reference rounds to float32 in either run.
LOSS = 4 * 2.0**-24
LARGEST = 39_168  # values, of VTG-LLM's tables
# What digests of the same values may lie apart, relative to their norm: the order of float64 sums,
# which the processor decides, over directions of norm LARGEST**0.5; and their 13 digits.
SAME = LARGEST**1.5 * 2.0**-53 + LARGEST**0.5 * 1e-12


class Steps:
    """A stage in float64, from weights that their names in the reference's files decide."""

    def __init__(self, stage, out):
        self.recorded = RECORDED[stage]["steps"]
        self.config = recorded_config(stage, out)
        self.initial = find_family(None, self.config.stage).open_initial(
            self.config, num_auxiliary=0
        )
        self.model = self.initial.model
        initial = RECORDED[stage].get("initial", ())
        self.started = {
            name: digest(starting_values(name, one))
            for name, one in self.trained()
            if name in initial
        }
        self.model.double().train()
        for one in self.model.modules():
            if isinstance(one, torch.nn.Dropout):
                one.p = 0.0
            if hasattr(one, "attention_dropout"):
                one.attention_dropout = 0.0
        with torch.no_grad():
            for name, parameter in self.trained():
                parameter.copy_(torch.from_numpy(drawn(name, parameter.shape, scale_of(name))))
        self.initial.vision.double()

    def trained(self):
        return [
            (self.model.file_name(name), one)
            for name, one in self.model.named_parameters()
            if one.requires_grad
        ]

    def take_first(self, change=lambda steps, examples: examples):
        """Return the first step, of examples that may be changed."""
        return next(self.take([change(self, one) for one in self.read()]))

    def read(self):
        """Return the examples of each step, read as a run reads them."""
        samples = self.initial.samples(self.config)
        numbers = sorted(set(chain.from_iterable(one["records"] for one in self.recorded)))
        with TrainingData(
            self.config.data, stage=self.config.stage, samples=samples, seed=0
        ) as data:
            family = self.config.stage.rpartition("-")[0]
            if make := {
                "grounded-videollm": self.without_towers,
                "vtgllm": self.with_drawn_frames,
            }.get(family):
                found = {i: make(samples, data.items[i], i) for i in numbers}
            else:
                readings = list(data.readings(numbers))
                assert not [one for one in readings if one.unreadable]
                found = {i: one.example for i, one in zip(numbers, readings, strict=True)}
        return [[found[i] for i in step["records"]] for step in self.recorded]

    def without_towers(self, samples, item, number):
        """Return an example with the features that the recorder drew in the place of the towers."""
        spec = self.initial.source.spec
        shapes = {"clip": 577, "internvideo2": 1 + 8 * 256}
        clip, internvideo2 = (
            torch.from_numpy(drawn(f"{name} {number}", (spec.num_segments, rows, WIDTH), 1.0))[
                :, 1:
            ]
            for name, rows in shapes.items()
        )
        temporal = pool_temporal(internvideo2, side=16)
        features = torch.cat((clip.flatten(1), temporal.flatten(1)), 1)[:, None]
        seen = SeenVideo(
            duration_seconds=SECONDS,
            num_visual_tokens=spec.max_feature_tokens,
            time_range_seconds=(0.0, SECONDS),
            model_seconds=None,
        )
        return Example(
            frames=np.empty((len(features), 0, 0, 3), np.uint8),
            tokens_per_frame=spec.tokens_per_segment,
            texts=(samples.text(item.records[0], seen),),
            features=features.numpy(),
        )

    def with_drawn_frames(self, samples, item, number):
        """Return an example with frames that the recorder drew, sampled with its seed."""
        (record,), (num_frames, fps) = item.records, VIDEOS[item.media.path]
        index = VideoIndex(
            average_fps=fps,
            pts_seconds=np.arange(num_frames) / fps,
            is_key=np.ones(num_frames, bool),
            width=224,
            height=224,
            codec_name="h264",
            container_name="mp4",
        )
        plan = samples.plan(record, index, random.Random(number))
        return Example(
            frames=np.stack([frame(number, i) for i in plan.frame_indices]),
            tokens_per_frame=samples.tokens_per_unit,
            texts=(samples.text(record, plan.seen),),
            front_arrays=samples.front_arrays(plan.seen),
        )

    def take(self, batches=None):
        """Yield what each step comes to, as the recorder writes it down."""
        optimizer = new_optimizer(self.model, self.config.optimizer)
        batches = batches or self.read()
        for number, examples in enumerate(batches):
            factor = rate_factor(number, self.config.optimizer, num_steps=len(self.recorded))
            rates = set_learning_rates(optimizer, factor)
            optimizer.zero_grad()
            losses = self.model(examples, self.initial.encode(examples))
            losses.loss.backward()
            step = {
                "loss": losses.loss.item(),
                "rates": sorted(set(rates.values())),
                "num_trained": sum(one.numel() for _, one in self.trained()),
                "gradients": {name: digest(one.grad) for name, one in self.trained()},
            }
            if (limit := self.config.optimizer.max_grad_norm) is not None:
                torch.nn.utils.clip_grad_norm_([one for _, one in self.trained()], limit)
            optimizer.step()
            step["weights"] = {name: digest(one.detach()) for name, one in self.trained()}
            yield step


def starting_values(name, parameter):
    """Return what a weight starts from, without the row of a token that is drawn."""
    values = parameter.detach().double().numpy()
    is_table = name.endswith(("embed_tokens.weight", "lm_head.weight"))
    return np.delete(values, PLACEHOLDER_ROW, axis=0) if is_table else values


def assert_as_recorded(found, recorded):
    assert found["gradients"].keys() == recorded["gradients"].keys()
    assert found["num_trained"] == recorded["num_trained"]
    assert found["rates"] == pytest.approx(sorted(set(recorded["rates"])), rel=1e-12)
    apart = differences(found, recorded)
    for kind, value in apart.items():
        bound = recorded["float32"][kind] + LOSS * (kind == "loss")
        assert value <= bound, (kind, value, bound)


def started_otherwise(stage, out):
    """Return the names of weights that start from other values than the reference's."""
    found, recorded = Steps(stage, out).started, RECORDED[stage]["initial"]
    assert found.keys() == recorded.keys()
    largest = max(one["norm"] for one in recorded.values())
    return {
        name
        for name, one in recorded.items()
        if difference(found[name], one, largest=largest) > SAME
    }


@pytest.mark.parametrize("stage", RECORDED)
def test_steps_are_the_references(stage, tmp_path):
    steps = Steps(stage, tmp_path)
    for found, recorded in zip(steps.take(), steps.recorded, strict=True):
        assert_as_recorded(found, recorded)


@pytest.mark.parametrize("stage", [name for name, one in RECORDED.items() if "initial" in one])
def test_weights_start_as_the_references(stage, tmp_path):
    assert not started_otherwise(stage, tmp_path)


def test_other_new_rows_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(vtgllm, "DIGITS", "1023456789.")
    stage = "vtgllm-instruct"
    wrong = started_otherwise(stage, tmp_path)
    assert {name.rpartition("model.")[2] for name in wrong} == {
        "embed_tokens.weight",
        "lm_head.weight",
    }


def with_targets(examples, change):
    """Replace every text's targets."""
    return [
        replace(one, texts=tuple(replace(text, targets=change(text)) for text in one.texts))
        for one in examples
    ]


def learn_the_prompt_too(steps, examples):
    return with_targets(examples, lambda text: np.where(text.ids < 0, -100, text.ids))


def shift_the_labels(steps, examples):
    return with_targets(examples, lambda text: np.roll(text.targets, -1))


def tie_the_head(steps, examples):
    with torch.no_grad():
        steps.model.lm_head.weight.copy_(steps.model.decoder.embed_tokens.weight)
    return examples


def forget_to_freeze(steps, examples):
    steps.model.decoder.norm.requires_grad_(True)
    return examples


@pytest.mark.parametrize("stage", RECORDED)
@pytest.mark.parametrize(
    "mistake", [learn_the_prompt_too, shift_the_labels, tie_the_head, forget_to_freeze]
)
def test_mistakes_are_found(stage, mistake, tmp_path):
    steps = Steps(stage, tmp_path)
    with pytest.raises(AssertionError):
        assert_as_recorded(steps.take_first(mistake), steps.recorded[0])


@pytest.mark.parametrize("stage", RECORDED)
def test_files_are_the_references(stage, tmp_path):
    """By name and shape, in the stage's own folder of a whole layout."""
    steps = Steps(stage, tmp_path)
    steps.initial.write_files(tmp_path, steps.model.float().state_dict())
    own = (
        *tmp_path.glob(f"vtimellm-*-stage{stage[-1]}/*.bin"),
        *tmp_path.glob("ckpt/*.pth"),
        *tmp_path.glob("model/vtgllm.pth"),
    )
    found = {
        path.name: {
            name: list(one.shape) for name, one in read_torch_file(path, inside="model").items()
        }
        for path in own
    }
    assert found == RECORDED[stage]["files"]

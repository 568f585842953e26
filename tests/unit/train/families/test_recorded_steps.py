"""Losses, gradients and weights of steps that the references' own training took.

Both sides compute in float64, but for what either rounds to float32 on the way: norms, angles, and
on the reference's side logits. What float32 throughout makes of its gradients and weights was
recorded, and is the bound.
"""

import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from tests.fixtures.training_ref.digests import differences, digest, drawn
from tests.unit.train.text_runs import FIXTURES, recorded_config
from train.data import TrainingData
from train.families import find_family
from train.optimizer import new_optimizer, rate_factor, set_learning_rates

RECORDED = {
    name: stage
    for path in sorted((FIXTURES / "training_ref").glob("*/steps.json"))
    for name, stage in json.loads(path.read_text()).items()
}
# Logit, exponential, logarithm and mean in float32, rounded once each.
LOSS = 4 * 2.0**-24


class Steps:
    """A stage in float64, from weights that their names in the reference's files decide."""

    def __init__(self, stage, out):
        self.recorded = RECORDED[stage]["steps"]
        self.config = recorded_config(stage, out)
        self.initial = find_family(None, stage).open_initial(self.config, num_auxiliary=0)
        self.model = self.initial.model.double().train()
        with torch.no_grad():
            for name, parameter in self.trained():
                parameter.copy_(torch.from_numpy(drawn(name, parameter.shape, 0.1)))
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
        with TrainingData(
            self.config.data, stage=self.config.stage, samples=samples, seed=0
        ) as data:
            numbers = sorted(set(chain.from_iterable(one["records"] for one in self.recorded)))
            readings = dict(zip(numbers, data.readings(numbers), strict=True))
        assert not [one.unreadable for one in readings.values() if one.unreadable]
        return [[readings[i].example for i in step["records"]] for step in self.recorded]

    def take(self, batches=None):
        """Yield what each step comes to, as the recorder writes it down."""
        optimizer = new_optimizer(self.model, self.config.optimizer)
        batches = batches or self.read()
        for number, examples in enumerate(batches):
            factor = rate_factor(
                number, num_steps=len(batches), warmup_ratio=self.config.optimizer.warmup_ratio
            )
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
            optimizer.step()
            step["weights"] = {name: digest(one.detach()) for name, one in self.trained()}
            yield step


def assert_as_recorded(found, recorded):
    assert found["gradients"].keys() == recorded["gradients"].keys()
    assert found["num_trained"] == recorded["num_trained"]
    assert found["rates"] == pytest.approx(sorted(set(recorded["rates"])), rel=1e-12)
    apart = differences(found, recorded)
    for kind, value in apart.items():
        bound = LOSS if kind == "loss" else recorded["float32"][kind]
        assert value <= bound, (kind, value, bound)


@pytest.mark.parametrize("stage", RECORDED)
def test_steps_are_the_references(stage, tmp_path):
    steps = Steps(stage, tmp_path)
    for found, recorded in zip(steps.take(), steps.recorded, strict=True):
        assert_as_recorded(found, recorded)


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
    found = {
        path.name: {name: list(one.shape) for name, one in torch.load(path).items()}
        for path in sorted(tmp_path.glob(f"*-stage{stage[-1]}/*.bin"))
    }
    assert found == RECORDED[stage]["files"]

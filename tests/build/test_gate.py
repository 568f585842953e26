"""The gate at serving shapes: engines that are wrong only there are refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from engine_build.families.videoitg.mixed_precision import MixedTokenScorer
from engine_build.trtllm.limits import opt_num_tokens
from groundserve.engines.manifest import EMBEDDINGS_NAME
from groundserve.errors import EngineMismatchError
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.decoder import read_embeddings, write_embeddings
from groundserve.scoring import gate
from groundserve.scoring.gate import check_engines, judge
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.engine import EngineDirectory
from python_backend.ground.engine import EngineGrounder

MAX_TOKENS = 4096
LONGEST_RIGHT = 1000
"""Tokens that the engine with a fault in long sequences still gets right."""


class Scorer:
    """A `TokenScorer`: the plan's own module, run as an engine would run it."""

    def __init__(self, model):
        self.model = model

    def score(self, inputs_embeds):
        with torch.inference_mode():
            return self.one(inputs_embeds)

    def one(self, sequence):
        return self.model(sequence.contiguous())


class WrongWhenLong(Scorer):
    """Reads no further than so many tokens, as with a table or tile count that is too small."""

    def one(self, sequence):
        scores = torch.zeros(len(sequence))
        scores[:LONGEST_RIGHT] = super().one(sequence[:LONGEST_RIGHT])
        return scores


class Causal(Scorer):
    """Lets no token see a later one: each is scored with its prefix alone."""

    def one(self, sequence):
        # Of the first frame's tokens; the others do not matter to the probe.
        scores = super().one(sequence)
        scores[:36] = super().one(sequence[:36])
        return scores


@pytest.fixture(scope="module")
def engine_dir(engines_of, tmp_path_factory):
    """`digits` as the profile torch, with the embeddings of an engine beside it."""
    out = tmp_path_factory.mktemp("gate") / "engines"
    shutil.copytree(engines_of(SHIPPED_CHECKPOINT, "torch"), out)
    write_embeddings(Checkpoint.open(SHIPPED_CHECKPOINT).load_grounding(), out / EMBEDDINGS_NAME)
    return out


@pytest.fixture(scope="module")
def decoder():
    model = Checkpoint.open(SHIPPED_CHECKPOINT).load_grounding()
    return MixedTokenScorer(model, dtype=torch.float32, max_tokens=MAX_TOKENS)


@pytest.fixture
def engine(monkeypatch, engine_dir, decoder):
    """Put a scorer behind the grounding stage of the directory."""

    def use(scorer_class):
        front = read_embeddings(engine_dir / EMBEDDINGS_NAME, device="cpu")
        grounder = EngineGrounder(front, scorer_class(decoder))
        monkeypatch.setattr(EngineDirectory, "open_grounder", lambda self, num_threads: grounder)
        return {"engine_dir": engine_dir, "checkpoint": SHIPPED_CHECKPOINT, "vision_tower": None}

    return use


def test_a_sound_engine_passes_at_every_shape(engine):
    report = check_engines(**engine(Scorer))

    model = Checkpoint.open(SHIPPED_CHECKPOINT).model_spec(pad_token_id=0)
    optimum = opt_num_tokens(model)
    assert optimum == model.max_feature_tokens + 1024
    assert [(check.output, check.num_frames, check.num_tokens) for check in report.checks] == [
        ("features", 4, ()),
        ("logits", 4, (156,)),
        # 48 frames of 9 tokens fill the budget of 432.
        ("features", 48, ()),
        ("logits", 48, (optimum,)),
    ]
    assert report.not_run == {}
    # float32 against float32: far below the bound, which is for other kernels' order of additions.
    assert all(check.error < 1e-4 for check in report.checks)


def test_an_engine_that_is_wrong_at_serving_shapes_alone_is_refused(engine):
    report = check_engines(**engine(WrongWhenLong), must_pass=False)
    wrong = [(one.output, one.num_tokens) for one in report.checks if not one.passed]
    assert wrong == [("logits", (1456,))]
    # Four frames, one question and the probe, which is all there was to a gate, find nothing.
    small = [check for check in report.checks if check.num_tokens in ((), (156,))]
    judge(replace(report, checks=tuple(small)))
    with pytest.raises(EngineMismatchError, match="PyTorch: logits of 48 frames, 1456 tokens"):
        judge(report)


def test_a_causal_engine_is_refused_by_the_probe(engine):
    report = check_engines(**engine(Causal), must_pass=False)
    assert report.mask_probe == 0
    with pytest.raises(EngineMismatchError, match="is causal"):
        judge(replace(report, checks=()))


def test_on_a_cpu_a_pass_that_takes_long_is_left_out_and_said_so(engine, monkeypatch):
    monkeypatch.setattr(gate, "MAX_CPU_TFLOP", 0.001)
    report = check_engines(**engine(WrongWhenLong))
    assert list(report.not_run) == ["48 frames, 1456 tokens in one pass"]
    assert {check.num_frames for check in report.checks} == {4}
    assert (
        "48 frames, 1456 tokens in one pass: not run, 0.0078 TFLOP a pass are too many for a CPU"
        in (report.summary)
    )

"""Too many records that cannot be read end a run, and lose nothing of it."""

from dataclasses import replace

import pytest

from groundserve.errors import InvalidRequestError
from tests.unit.train.runs import FakeData, assert_same_weights, make_config, metrics, run
from train import unreadable
from train.state import newest_checkpoint


def test_a_run_ends_with_a_checkpoint_and_goes_on_with_a_larger_share(tmp_path, monkeypatch):
    monkeypatch.setattr(unreadable, "MIN_ITEMS", 5)
    data = FakeData(unreadable={1, 4})
    whole = make_config(tmp_path / "whole", save_every_steps=100)
    config = replace(whole, out=tmp_path / "run")
    strict = replace(config, data=replace(config.data, max_unreadable_share=0.3))
    with pytest.raises(InvalidRequestError, match=r"2 of 5 items \(40\.0%\) could not be read"):
        run(strict, data=data)
    assert newest_checkpoint(config.out).name == "checkpoint-5"
    assert not (config.out / "final").exists()

    lenient = replace(config, data=replace(config.data, max_unreadable_share=0.5))
    run(lenient, data=data, resume=True)
    run(replace(whole, data=lenient.data), data=data)
    assert metrics(config.out) == metrics(whole.out)
    assert_same_weights(config.out, whole.out)

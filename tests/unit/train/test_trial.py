"""A sample's cost: the mean over what may be drawn, each thing counted as often as it is done."""

import json
import random
import statistics
from dataclasses import replace

import pytest

from tests.unit.train.data.samples import question, write_video
from tests.unit.train.runs import make_config
from train.config import StageConfig
from train.families import find_family
from train.families.videoitg.samples import grid_choices
from train.trial import open_trial_data, read_trial


@pytest.fixture
def run(tmp_path):
    """A function that writes records about one video of 4 seconds and returns a config."""
    write_video(tmp_path / "a.mp4", num_frames=40)

    def make(records, **data) -> StageConfig:
        (tmp_path / "records.json").write_text(json.dumps(records))
        config = make_config(tmp_path / "run", auxiliary_weight=0.0)
        changes = {"records": tmp_path / "records.json", "media_root": tmp_path, **data}
        return replace(config, data=replace(config.data, **changes))

    return make


def try_items(config):
    source = find_family(config.init).open_source(config)
    with open_trial_data(config, source) as data:
        return source, [read_trial(config, source, data, number) for number in range(len(data))]


def flops(config, source, *, grid, num_text_tokens):
    return source.sample_flops(
        config,
        num_frames=4,
        tokens_per_frame=grid**2,
        num_text_tokens=num_text_tokens,
        num_targets=0,
    )


def test_the_mean_is_over_the_grids_that_training_draws(run):
    config = run([question("a.mp4", "what")])
    source, (trial,) = try_items(config)
    tokenizer, _ = source.checkpoint.load_tokenizer()
    num_text = len(tokenizer.encode("what\n", add_special_tokens=False).ids)
    # Budget 256, T = 4: drawn from 1 to 8, the side of the tower is 8.
    grids = [flops(config, source, grid=g, num_text_tokens=num_text) for g in range(1, 9)]
    assert trial.num_frames == 4
    assert trial.flops.tower == grids[0].tower
    assert trial.flops.decoder == pytest.approx(statistics.mean(one.decoder for one in grids))
    assert trial.core_seconds > 0
    assert trial.fault is None


def test_a_grid_is_drawn_from_its_choices():
    options = {"vision_token_num": 16384, "vision_min_num": 1, "side": 27}
    choices = grid_choices(4, **options)
    assert choices == [*range(1, 28), *[27] * 37]  # 1 to 64, capped after the draw
    rng, same = random.Random(3), random.Random(3)
    drawn = [rng.choice(choices) for _ in range(100)]
    # The numbers that `randint` gave: earlier runs resume to the same grids.
    assert drawn == [min(same.randint(1, 64), 27) for _ in range(100)]

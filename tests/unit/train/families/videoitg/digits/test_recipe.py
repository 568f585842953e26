"""The recipe, at a size where it learns nothing: every stage runs and hands over to the next."""

import itertools

from tests.unit.train.families.videoitg.digits.tiny import TINY
from train.families.videoitg.digits.recipe import stage_configs


def test_every_run_starts_from_the_one_before(tmp_path):
    configs = stage_configs(TINY, tmp_path)
    assert [config.stage for config in configs] == [
        "projector",
        "images",
        "video",
        "grounding",
        "grounding",
    ]
    assert configs[0].init == tmp_path / "base" / "qwen2"
    for before, after in itertools.pairwise(configs):
        assert after.init == before.out / "final"

import pytest

from train.families.videoitg.digits import recipe as recipes
from train.families.videoitg.digits.recipe import Recipe, run_recipe
from train.families.videoitg.digits.vision import VisionTraining


def test_a_base_whose_training_was_killed_is_made_again(tmp_path, monkeypatch):
    written = []

    def write(directory, **kwargs):
        directory.mkdir(parents=True)
        written.append(directory.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "write_language_model", write)
    monkeypatch.setattr(recipes, "train_vision", lambda *args, **kwargs: None)
    monkeypatch.setattr(recipes, "write_tower", lambda tower, config, out: out.mkdir(parents=True))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_recipe(Recipe(seed=0, vision=VisionTraining(seed=0)), tmp_path)
        assert not (tmp_path / "base" / "qwen2").exists()
    assert len(written) == 2

"""The recipe, at a size where it learns nothing: every stage runs and hands over to the next."""

import itertools
from dataclasses import replace

from train.families.videoitg.digits.base import SPECIAL_TOKENS, VISION, make_tokenizer
from train.families.videoitg.digits.recipe import Phase, Recipe, stage_configs
from train.families.videoitg.digits.vision import VisionTraining, train_vision

TINY = Recipe(
    seed=3,
    vision=VisionTraining(seed=3, num_steps=2, batch_size=4),
    num_texts=64,
    num_images=256,
    num_videos=6,
    video_epochs=1,
    video_frames=8,
    phases=(
        Phase(num_frames=8, num_videos=2, learning_rate=1e-3),
        Phase(num_frames=16, num_videos=2, learning_rate=1e-3, num_more_order=1),
    ),
)


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


def test_without_stages_1_to_3_the_base_is_grounded_directly(tmp_path):
    configs = stage_configs(replace(TINY, has_stages_1_to_3=False, variant="anchor"), tmp_path)
    assert [config.stage for config in configs] == ["grounding", "grounding"]
    assert configs[0].init == tmp_path / "base" / "qwen2"
    assert {config.variant for config in configs} == {"anchor"}


def test_the_tower_learns_and_is_complete():
    losses = []
    tower = train_vision(
        VISION,
        VisionTraining(seed=1, num_steps=12, batch_size=8),
        on_step=lambda step, loss, right: losses.append(loss),
    )
    assert losses[-1] < 0.7 * losses[0]
    names = tower.state_dict()
    assert "head.probe" in names
    assert f"encoder.layers.{VISION.num_hidden_layers - 1}.mlp.fc2.weight" in names


def test_the_tokenizer_is_qwen2s_kind():
    tokenizer = make_tokenizer(["When is a seven shown?\n"] * 3, vocab_size=300)
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2]
    assert tokenizer.encode("seven?\n").tokens[-1] == "?Ċ"
    assert tokenizer.decode(tokenizer.encode("été!").ids) == "été!"

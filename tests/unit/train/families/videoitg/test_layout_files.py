"""The files of a checkpoint that is written, and what writing leaves alone."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from groundserve.families.videoitg.checkpoint import Checkpoint, model_tensors
from tests.support.reference import CHECKPOINTS
from tests.unit.train.layouts import (
    TOKENIZER,
    TOWER_NAME,
    all_tensors,
    assert_equal,
    change,
    make_config,
    write,
)
from train.families.videoitg.family import open_initial
from train.families.videoitg.models import PoolingModel
from train.families.videoitg.stages import grounding, images, projector


def test_files_of_the_first_stage(qwen2, tower, tmp_path):
    initial = open_initial(make_config(projector, qwen2, vision_tower=tower), num_auxiliary=2)
    out = write(tmp_path / "1", initial)
    for path in TOKENIZER.iterdir():
        if path.name.startswith(("tokenizer", "special", "vocab", "merges", "added")):
            assert (out / path.name).read_bytes() == path.read_bytes()
    assert (out / TOWER_NAME / "config.json").read_bytes() == (tower / "config.json").read_bytes()
    assert (out / TOWER_NAME / "preprocessor_config.json").is_file()
    projector_alone = torch.load(out / "mm_projector.bin", weights_only=True)
    assert_equal(
        projector_alone,
        {
            name.replace("projector.", "model.mm_projector.out_projection."): tensor
            for name, tensor in initial.model.state_dict().items()
            if name.startswith("projector.")
        },
    )
    assert not any("auxiliary" in name for name in all_tensors(out))
    later = open_initial(make_config(images, out), num_auxiliary=0)
    assert not (write(tmp_path / "2", later) / "mm_projector.bin").exists()


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_the_references_checkpoints_come_out_as_they_went_in(folder, tmp_path):
    raw = json.loads((folder / "config.json").read_text())
    config = make_config(grounding, folder)
    data = replace(
        config.data,
        vision_token_num=raw["vision_token_num"],
        max_length=raw["tokenizer_model_max_length"],
    )
    initial = open_initial(replace(config, data=data), num_auxiliary=0)
    assert isinstance(initial.model, PoolingModel)
    out = write(tmp_path / folder.name, initial)
    assert_equal(all_tensors(out), all_tensors(folder))
    written = json.loads((out / "config.json").read_text())
    assert {key: written[key] for key in raw if key != "transformers_version"} == {
        key: value for key, value in raw.items() if key != "transformers_version"
    }
    before, after = Checkpoint.open(folder), Checkpoint.open(out)
    assert after.config == before.config
    assert after.vision_config == before.vision_config
    assert_equal(after.load_vision().state_dict(), before.load_vision().state_dict())
    assert_equal(after.load_grounding().state_dict(), before.load_grounding().state_dict())


def test_weights_are_stored_in_shards(qwen2, tower, tmp_path, monkeypatch):
    from train.families.videoitg import layout

    monkeypatch.setattr(layout, "MAX_FILE_BYTES", 50_000)
    initial = open_initial(make_config(grounding, qwen2, vision_tower=tower), num_auxiliary=0)
    out = write(tmp_path / "4", initial)
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 2
    assert {tensor.dtype for tensor in all_tensors(out).values()} == {torch.float32}
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == "float32"
    with safe_open(next((out / TOWER_NAME).glob("*.safetensors")), framework="pt") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float32}  # noqa: SIM118
    again = open_initial(make_config(grounding, out), num_auxiliary=0).model.state_dict()
    assert_equal(again, initial.model.state_dict())


def test_a_checkpoint_replaces_an_earlier_one_whole(qwen2, tower, tmp_path):
    initial = open_initial(make_config(projector, qwen2, vision_tower=tower), num_auxiliary=0)
    out = write(tmp_path / "final", initial)
    (out / "left over.txt").touch()
    (tmp_path / ".final.partial").mkdir()  # of a run that was killed
    change(initial, 1)
    write(out, initial)
    assert_equal(model_tensors(out), initial.model.state_dict())
    assert not (out / "left over.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["final"]

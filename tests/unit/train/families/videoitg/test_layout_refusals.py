"""Directories that no stage can start from."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from groundserve.errors import InvalidRequestError
from tests.support.reference import SET_1
from tests.unit.train.layouts import (
    all_tensors,
    make_config,
    make_qwen2,
)
from train.families.videoitg.family import open_initial
from train.families.videoitg.stages import grounding, projector


def copy_with(source, folder, *, config=None, tensors=None):
    """Copy a directory with another config or other tensors."""
    shutil.copytree(source, folder)
    if config is not None:
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**raw, **config}))
    if tensors is not None:
        changed = tensors(all_tensors(folder))
        for path in [*folder.glob("model*")]:
            path.unlink()
        save_file(changed, folder / "model.safetensors")
    return folder


def without(*names):
    return lambda tensors: {n: t for n, t in tensors.items() if n not in names}


@pytest.mark.parametrize(
    ("stage", "source", "changes", "message"),
    [
        pytest.param(
            projector,
            "qwen2",
            {"tensors": without("model.norm.weight")},
            r"lacks 1 tensor\(s\) of CausalModel: decoder\.norm\.weight",
            id="missing",
        ),
        pytest.param(
            grounding,
            "grounding",
            {"tensors": without("model.mm_projector.out_projection.0.bias")},
            r"lacks 1 tensor\(s\) of PoolingModel: projector\.0\.bias",
            id="part_of_a_projector",
        ),
        pytest.param(
            projector,
            "qwen2",
            {"config": {"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn"}}},
            "rope_scaling must be default, got 'yarn'",
            id="rope_scaling",
        ),
        pytest.param(
            projector,
            "qwen2",
            {"config": {"model_type": "llama"}},
            "mm_projector_type is missing",
            id="another_model",
        ),
    ],
)
def test_other_directories_are_refused(stage, source, changes, message, qwen2, tower, tmp_path):
    original = qwen2 if source == "qwen2" else SET_1 / "videoitg-tiny"
    tower = tower if source == "qwen2" else SET_1 / "siglip-tiny-patch14-112"
    folder = copy_with(original, tmp_path / "changed", **changes)
    with pytest.raises(InvalidRequestError, match=message):
        open_initial(make_config(stage, folder, vision_tower=tower), num_auxiliary=0)


def test_a_tokenizer_with_more_ids_than_rows_is_refused(tower, tmp_path):
    folder = make_qwen2(tmp_path / "short", vocab_size=300)
    with pytest.raises(InvalidRequestError, match="has 374 ids, the embedding table 300 rows"):
        open_initial(make_config(projector, folder, vision_tower=tower), num_auxiliary=0)


def test_a_language_model_needs_a_tower(qwen2, tower, tmp_path):
    with pytest.raises(InvalidRequestError, match="vision_tower must be given"):
        open_initial(make_config(projector, qwen2), num_auxiliary=0)
    shutil.copytree(tower, tmp_path / "vision")
    with pytest.raises(InvalidRequestError, match=r'must have "siglip" in its name.*got "vision"'):
        open_initial(
            make_config(projector, qwen2, vision_tower=tmp_path / "vision"), num_auxiliary=0
        )


def test_missing_folders_are_named(qwen2, tower):
    nowhere = Path("/nowhere")
    with pytest.raises(InvalidRequestError, match="init must be a folder, got /nowhere"):
        open_initial(make_config(projector, nowhere, vision_tower=tower), num_auxiliary=0)
    with pytest.raises(InvalidRequestError, match="vision_tower must be a folder, got /nowhere"):
        open_initial(make_config(projector, qwen2, vision_tower=nowhere), num_auxiliary=0)

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from engine_build import build
from groundserve.engines.engine_use import mark_in_use
from groundserve.errors import EngineMismatchError, InvalidRequestError, UnsupportedError
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.scoring.gate import check_engines
from tests.support.reference import SET_1

CHECKPOINT = SET_1 / "videoitg-tiny"
TOWER = SET_1 / "siglip-tiny-patch14-112"


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of set 1's checkpoint and tower that a test may damage."""
    shutil.copytree(TOWER, tmp_path / TOWER.name)
    return shutil.copytree(CHECKPOINT, tmp_path / CHECKPOINT.name)


def edit_config(checkpoint, **changes):
    path = checkpoint / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "REMOVE"}))


def edit_weights(checkpoint, edit):
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def test_building_twice_keeps_the_directory(engine_dirs, tmp_path):
    steps = []
    out = shutil.copytree(engine_dirs["cpu"], tmp_path / "engines")
    before = (out / "manifest.json").stat().st_mtime_ns
    manifest = build(CHECKPOINT, out, profile="cpu", on_step=steps.append)
    assert steps == ["reading the checkpoint", "up to date"]
    assert (out / "manifest.json").stat().st_mtime_ns == before
    assert manifest.identity["checkpoint"] == "videoitg-tiny"


def test_a_damaged_directory_is_built_again(engine_dirs, tmp_path):
    out = shutil.copytree(engine_dirs["torch"], tmp_path / "engines")
    (out / "tokenizer.json").write_text("{}")
    build(CHECKPOINT, out, profile="torch").verify_files(out)


@pytest.fixture
def old_engines(tmp_path):
    """What every build replaces: an engine directory by its name alone."""
    folder = tmp_path / "engines"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return folder


def test_a_directory_that_is_served_is_named_with_the_server(old_engines, caplog):
    with mark_in_use(old_engines):
        build(CHECKPOINT, old_engines, profile="torch")
    (line,) = [record.getMessage() for record in caplog.records if "in use" in record.msg]
    assert line == (
        f"{old_engines} is in use by a server (pid {os.getpid()}), which goes on with the engines "
        f"it has loaded; for the new ones start another `groundserve serve`, on other ports"
    )


def test_a_link_goes_on_pointing_to_what_is_replaced(old_engines, tmp_path, caplog):
    link = tmp_path / "current"
    link.symlink_to(old_engines)
    build(CHECKPOINT, link, profile="torch").verify_files(old_engines)
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "engines"]
    assert "in use" not in caplog.text


def test_what_cannot_be_replaced_is_kept(old_engines, monkeypatch):
    rename = Path.rename

    def rename_but_not_there(self, target):
        if self.name.startswith(".engines.partial"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_but_not_there)
    with pytest.raises(InvalidRequestError, match=r"cannot replace .*: Device or resource busy"):
        build(CHECKPOINT, old_engines, profile="torch")
    assert (old_engines / "manifest.json").read_text() == "{}"
    assert [path.name for path in old_engines.parent.iterdir()] == ["engines"]


def test_something_else_at_the_place_is_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidRequestError, match="is not an engine directory"):
        build(CHECKPOINT, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_build_that_fails_leaves_nothing(checkpoint, tmp_path):
    edit_weights(checkpoint, lambda tensors: tensors.pop("out_proj.weight"))
    with pytest.raises(InvalidRequestError, match=r"lacks 1 tensor\(s\).*: head.weight"):
        build(checkpoint, tmp_path / "engines")
    assert not list(tmp_path.glob("*engines*"))


@pytest.mark.parametrize(
    "name", ["missing/timing.cache", "directory", "pipe", "link", "file/timing.cache"]
)
def test_a_timing_cache_that_cannot_be_written_is_refused_first(name, tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "missing/timing.cache")
    os.mkfifo(tmp_path / "pipe")
    steps = []
    with pytest.raises(InvalidRequestError, match="timing_cache must be a file that can be"):
        build(CHECKPOINT, tmp_path / "engines", timing_cache=tmp_path / name, on_step=steps.append)
    assert steps == []


@pytest.mark.parametrize("profile", ["cpu", "torch"])
def test_the_gate_passes_a_good_build(engine_dirs, profile):
    report = check_engines(engine_dirs[profile], CHECKPOINT, vision_tower=None)
    # Neither packs. float32 against float32: only the order of additions differs.
    assert [check.output for check in report.checks] == ["features", "logits"] * 2
    assert all(check.error < 1e-4 for check in report.checks)
    assert report.mask_probe > 1e-5


def test_the_gate_refuses_engines_of_other_weights(engine_dirs, checkpoint):
    def scale(tensors):
        tensors["model.layers.0.mlp.down_proj.weight"] *= 1.5

    edit_weights(checkpoint, scale)
    with pytest.raises(EngineMismatchError, match="the grounding engine differs from PyTorch"):
        check_engines(engine_dirs["cpu"], checkpoint, vision_tower=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_use_4_vision_tokens": "REMOVE"}, "_4_vision_tokens is missing, which means True"),
        ({"mm_vision_tower": "openai/clip"}, "must name a SigLIP tower"),
        ({"mm_vision_select_layer": -9}, r"mm_vision_select_layer must be in -4\.\.3, got -9"),
        ({"mm_hidden_size": 64}, "the vision tower is 48 wide"),
        ({"num_hidden_layers": 1}, r"has unknown 12 tensor\(s\)"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(checkpoint, tmp_path, changes, message):
    edit_config(checkpoint, **changes)
    with pytest.raises((UnsupportedError, InvalidRequestError), match=message):
        build(checkpoint, tmp_path / "engines", profile="cpu")


def test_another_image_processor_is_refused(checkpoint, tmp_path):
    path = checkpoint.parent / TOWER.name / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "resample": 2}))
    with pytest.raises(UnsupportedError, match="resample must be 3, got 2"):
        build(checkpoint, tmp_path / "engines")


def test_a_damaged_or_missing_shard_is_named(checkpoint, tmp_path):
    (checkpoint / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(InvalidRequestError, match=r"model\.safetensors is damaged"):
        build(checkpoint, tmp_path / "engines", profile="cpu")
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(InvalidRequestError, match=r"there are no \.safetensors files"):
        build(checkpoint, tmp_path / "engines", profile="cpu")


def test_a_checkpoint_without_a_tokenizer_is_refused(checkpoint):
    (checkpoint / "tokenizer.json").unlink()
    assert Checkpoint.open(checkpoint).load_tokenizer()[0].encode("hello").ids  # of the other two
    (checkpoint / "merges.txt").unlink()
    with pytest.raises(InvalidRequestError, match=r": tokenizer\.json is missing; download it"):
        Checkpoint.open(checkpoint).load_tokenizer()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_tokenizer_is_named(checkpoint, name, text):
    (checkpoint / name).write_text(text)
    with pytest.raises(InvalidRequestError, match="the tokenizer's files are damaged; download"):
        Checkpoint.open(checkpoint).load_tokenizer()

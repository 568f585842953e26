"""What is saved, what is resumed, and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.families.videoitg.checkpoint import Checkpoint
from tests.unit.train.layouts import largest_file
from tests.unit.train.runs import checkpoints, make_config, run
from train.export import export, main
from train.state import SavedWeights, newest_checkpoint, read_progress, run_identity


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of six steps that kept its last two checkpoints."""
    out = tmp_path_factory.mktemp("finished") / "run"
    run(make_config(out, save_every_steps=2))
    return out


def test_last_checkpoints_are_kept(finished):
    assert checkpoints(finished) == ["checkpoint-4", "checkpoint-6"]
    assert newest_checkpoint(finished).name == "checkpoint-6"


def test_a_checkpoint_in_the_middle_is_exported(finished, tmp_path):
    config = replace(make_config(tmp_path / "run", save_every_steps=2), max_steps=6)
    export(config, finished / "checkpoint-6", tmp_path / "six")
    assert_same_files(tmp_path / "six", finished / "final")
    export(config, finished / "checkpoint-4", tmp_path / "four")
    four = Checkpoint.open(tmp_path / "four").load_grounding()
    assert torch.equal(four.head.weight, SavedWeights(finished / "checkpoint-4")["head.weight"])
    with pytest.raises(InvalidRequestError, match="checkpoint-5/trainer_state is missing or dam"):
        export(config, finished / "checkpoint-5", tmp_path / "five")


@pytest.fixture
def export_six(finished, tmp_path):
    """Return a function that exports step 6 by the command line, with what is changed of it."""
    config = tmp_path / "run.toml"
    config.write_text(
        f'init = "{make_config(finished).init}"\nout = "{finished}"\n'
        '[data]\nrecords = "records.json"\nmedia_root = "media"\n'
    )
    return lambda *changed: main(["grounding", "--config", str(config), "--step", "6", *changed])


def test_export_from_the_command_line(finished, export_six, tmp_path):
    out = tmp_path / "new" / "six"
    export_six("--out", str(out))
    tensors = load_file(out / "model.safetensors")
    expected = load_file(finished / "final" / "model.safetensors")
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--step", "5"], "no .*checkpoint-5; checkpoints in .*: checkpoint-4, checkpoint-6"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_export_says_what_is_wrong_in_its_last_line(changed, message, export_six, capsys):
    with pytest.raises(SystemExit, match="2"):
        export_six("--out", "unused", *changed)
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def assert_same_files(found, expected):
    for path in (path for path in expected.rglob("*") if path.is_file()):
        assert (found / path.relative_to(expected)).read_bytes() == path.read_bytes(), path


def test_a_full_disk_is_named(tmp_path):
    config = make_config(tmp_path / "run")
    message = r"process 0 cannot write .*checkpoint-3: .*File too large; mend it and go on with"
    with largest_file(100 * 1024), pytest.raises(GroundserveError, match=message):
        run(config)
    assert newest_checkpoint(config.out) is None
    run(config, resume=True)
    assert checkpoints(config.out) == ["checkpoint-3", "checkpoint-6"]


def test_what_is_no_checkpoint_is_neither_removed_nor_written_over(tmp_path):
    """Another program's model, say."""
    config = make_config(tmp_path / "run", max_steps=3, save_every_steps=1, keep_last=1)
    foreign = config.out / "checkpoint-99" / "model.safetensors"

    def put(report):
        foreign.parent.mkdir(exist_ok=True)
        foreign.write_text("")

    run(config, on_step=put)
    assert foreign.exists()
    assert checkpoints(config.out) == ["checkpoint-3", "checkpoint-99"]
    with pytest.raises(InvalidRequestError, match=r"checkpoint-99 is no checkpoint of this run"):
        run(config, resume=True)


def changed(config, name, value):
    """Set a field by its dotted name."""
    head, _, tail = name.partition(".")
    return replace(config, **{head: changed(getattr(config, head), tail, value) if tail else value})


def identity(config, *, world_size=1):
    return run_identity(config, world_size=world_size, num_steps=6, epoch_passes=8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer.learning_rate", 2e-3),
        ("data.questions_per_video", 2),
        ("data.records", Path("other.json")),
        ("init", Path("elsewhere")),
        ("max_steps", 7),
    ],
)
def test_a_setting_that_enters_the_loss_must_stay(finished, name, value):
    config = make_config(finished)
    message = rf"cannot resume .*checkpoint-6: {name} was .*, is now .*; give the earlier"
    with pytest.raises(InvalidRequestError, match=message):
        read_progress(finished / "checkpoint-6", identity(changed(config, name, value)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("out", Path("moved")),
        ("save_every_steps", 50),
        ("parallelism", "fsdp2"),
        ("data.num_workers", 9),
    ],
)
def test_other_settings_may_change(finished, name, value):
    config = changed(make_config(finished), name, value)
    assert read_progress(finished / "checkpoint-6", identity(config)).step == 6


def test_processes_and_accumulation_may_change_places():
    one = make_config("out", accumulation_steps=4)
    two = make_config("out", accumulation_steps=2)
    assert identity(one) == identity(two, world_size=2)
    assert identity(one) != identity(two)


def test_other_records_are_refused(finished):
    config = make_config(finished)
    longer = run_identity(config, world_size=1, num_steps=6, epoch_passes=9)
    with pytest.raises(InvalidRequestError, match="forward passes an epoch was 8, is now 9"):
        read_progress(finished / "checkpoint-6", longer)


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "progress.json"])
def test_a_damaged_state_is_named(tmp_path, name):
    config = make_config(tmp_path / "run", max_steps=1)
    run(config)
    path = config.out / "checkpoint-1" / "trainer_state" / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        InvalidRequestError, match=r"trainer_state\S* is missing or damaged; remove"
    ):
        run(config, resume=True)


def test_a_later_format_is_refused(finished, tmp_path):
    saved = json.loads((finished / "checkpoint-6" / "trainer_state" / "progress.json").read_text())
    (tmp_path / "trainer_state").mkdir()
    (tmp_path / "trainer_state" / "progress.json").write_text(json.dumps({**saved, "format": 3}))
    with pytest.raises(InvalidRequestError, match="format is 3, this version reads 2"):
        read_progress(tmp_path, identity(make_config(finished)))

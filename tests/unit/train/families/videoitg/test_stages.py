"""The stages hold the reference's numbers; a TOML file changes what it says and nothing else."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from groundserve.errors import InvalidRequestError
from tests.support.reference import REPOSITORY
from train.config_file import read_config
from train.families.videoitg.stages import STAGES, grounding

PATHS = {
    "init": Path("/init"),
    "records": Path("/records.json"),
    "media_root": Path("/media"),
    "out": Path("/out"),
}
# The published table, row by row: stages 1 to 4.
TABLE = {
    "stage": ("projector", "images", "video", "grounding"),
    "data.template": ("plain", "chatml", "chatml", "plain"),
    "data.vision_token_num": (12480, 12480, 12480, 16384),
    "data.vision_min_num": (4, 4, 4, 1),
    "data.max_frames": (64, 64, 256, 1024),
    "data.sample_fps": (1.0, 1.0, 1.0, 1.0),
    "data.max_length": (16384, 16384, 16384, 20480),
    "data.num_workers": (4, 2, 2, 6),
    "data.group_by_length": (False, False, False, True),
    "data.questions_per_video": (1, 1, 1, 1),
    "optimizer.learning_rate": (1e-3, 2e-5, 2e-5, 2e-5),
    "optimizer.out_proj_learning_rate": (None, None, None, 2e-4),
    "optimizer.out_proj_matches_projector": (True, True, True, True),
    "optimizer.warmup_ratio": (0.03, 0.03, 0.03, 0.05),
    "optimizer.betas": ((0.9, 0.999),) * 4,
    "optimizer.eps": (1e-8,) * 4,
    "optimizer.weight_decay": (0.0,) * 4,
    "optimizer.max_grad_norm": (None,) * 4,
    "variant": ("pooling",) * 4,
    "batch_size": (2, 1, 1, 1),
    "accumulation_steps": (1, 1, 1, 1),
    "epochs": (1, 1, 1, 1),
    "max_steps": (None,) * 4,
    "seed": (42,) * 4,
    "precision": ("bf16",) * 4,
    "gradient_checkpointing": (True,) * 4,
    "parallelism": ("fsdp2",) * 4,
    "auxiliary_weight": (0.0,) * 4,
    "save_every_steps": (500,) * 4,
    "log_every_steps": (1,) * 4,
}


def value_of(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


def test_stages_hold_the_published_table():
    configs = [stage(**PATHS) for stage in STAGES.values()]
    found = {name: tuple(value_of(config, name) for config in configs) for name in TABLE}
    assert found == TABLE


REQUIRED = """
init = "/init"
out = "/out"
[data]
records = "/records.json"
media_root = "/media"
"""


def write(folder, *, top="", data="", optimizer=""):
    path = folder / "run.toml"
    path.write_text(f"{top}\n{REQUIRED}\n{data}\n[optimizer]\n{optimizer}\n")
    return path


@pytest.mark.parametrize("stage", STAGES)
def test_read_config_of_paths_alone_is_the_stage(tmp_path, stage):
    assert read_config(stage, write(tmp_path)) == STAGES[stage](**PATHS)


def test_read_config_overrides_any_field(tmp_path):
    path = write(
        tmp_path,
        top='stage = "grounding"\nvariant = "anchor"\nmax_steps = 10\nepochs = 2',
        data='sample_fps = "none"\nquestions_per_video = 4',
        optimizer='learning_rate = 1\nbetas = [0.8, 0.95]\nout_proj_learning_rate = "none"',
    )
    base = grounding(**PATHS)
    assert read_config("grounding", path) == replace(
        base,
        variant="anchor",
        max_steps=10,
        epochs=2,
        data=replace(base.data, sample_fps=None, questions_per_video=4),
        optimizer=replace(
            base.optimizer, learning_rate=1.0, betas=(0.8, 0.95), out_proj_learning_rate=None
        ),
    )


def test_read_config_starts_relative_paths_at_the_files_folder(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    path = tmp_path / "runs" / "a.toml"
    path.write_text(
        'init = "../video/final"\nout = "grounding"\nvision_tower = "/siglip"\n'
        '[data]\nrecords = "itg.json"\nmedia_root = "media"\n'
    )
    monkeypatch.chdir(tmp_path)
    config = read_config("grounding", Path("runs/a.toml"))
    assert config.init == tmp_path / "runs" / "../video/final"
    assert config.out == tmp_path / "runs" / "grounding"
    assert config.vision_tower == Path("/siglip")
    assert config.data.records == tmp_path / "runs" / "itg.json"
    assert config.data.media_root == tmp_path / "runs" / "media"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top": "epoch = 2"}, r"there is no setting epoch, got 2; there are stage, init, "),
        ({"data": "fps = 2.0"}, r"there is no setting data\.fps, got 2\.0; .*data\.sample_fps"),
        ({"top": 'stage = "video"'}, r'stage must be "grounding", got \'video\''),
        ({"top": "epochs = true"}, r"epochs must be a whole number, got True"),
        ({"top": "vision_tower = 3"}, r"vision_tower must be a path, got 3"),
        ({"top": 'precision = "fp16"'}, r"precision must be one of fp32, bf16, got 'fp16'"),
        ({"optimizer": "learning_rate = nan"}, r"optimizer\.learning_rate must be a finite number"),
        ({"optimizer": "betas = [0.9]"}, r"optimizer\.betas must be a list of 2, got \[0\.9\]"),
        ({"optimizer": "warmup_ratio = 1"}, r"optimizer\.warmup_ratio must be in \[0, 1\)"),
    ],
)
def test_read_config_refuses(tmp_path, changes, message):
    with pytest.raises(InvalidRequestError, match=rf"run\.toml.*{message}"):
        read_config("grounding", write(tmp_path, **changes))


def test_anchors_are_for_grounding_only(tmp_path):
    with pytest.raises(InvalidRequestError, match='stage "projector" writes text'):
        read_config("projector", write(tmp_path, top='variant = "anchor"'))


@pytest.mark.parametrize("key", ["init", "out", "records", "media_root"])
def test_read_config_requires_paths(tmp_path, key):
    path = write(tmp_path)
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} ")]
    path.write_text("\n".join(lines))
    name = key if key in ("init", "out") else rf"data\.{key}"
    with pytest.raises(InvalidRequestError, match=rf"run\.toml: {name} is required"):
        read_config("video", path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("init = ", r"run\.toml is not TOML"),
        ('init = "a"\nout = "b"\n', r"data\.records is required"),
        (f"optimizer = 3\n{REQUIRED}", r"optimizer must be a table, got 3"),
    ],
)
def test_read_config_refuses_other_files(tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(InvalidRequestError, match=message):
        read_config("video", tmp_path / "run.toml")


def test_the_example_of_the_documentation_is_read(tmp_path):
    text = (REPOSITORY / "docs" / "train.md").read_text("utf-8")
    example, _, of_text = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "boundaries.toml").write_text(of_text)
    config = read_config(None, tmp_path / "boundaries.toml")
    assert (config.stage, config.optimizer.learning_rate) == ("vtimellm-2", 1e-4)
    assert config.accumulation_steps * config.batch_size * 8 == 128
    (tmp_path / "grounding.toml").write_text(example)
    config = read_config("grounding", tmp_path / "grounding.toml")
    assert config.init == tmp_path / "runs" / "video" / "final"
    assert config.accumulation_steps * config.batch_size * 8 == 128
    assert config.optimizer == grounding(**PATHS).optimizer

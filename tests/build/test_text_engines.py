"""Engine directories of a family that answers in text, and the gate behind their build."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from engine_build import build
from groundserve.engines.manifest import Manifest
from groundserve.errors import EngineMismatchError, InvalidRequestError, UnsupportedError
from groundserve.scoring.comparison import TOLERANCES
from groundserve.scoring.gate import check_engines
from groundserve.scoring.gate_report import GateReport
from groundserve.weights.checkpoint_place import SHIPPED_CHECKPOINT
from python_backend.checkpoint import CheckpointStages
from python_backend.pipeline import Pipeline
from tests.support.answer_cases import CHECKPOINTS, MODELS

STAGE_3 = MODELS["stage3"]


@pytest.fixture
def engine_dir(answer_engines):
    return answer_engines("stage3")


def test_a_directory_has_what_the_head_needs_and_says_so(engine_dir):
    manifest = Manifest.load(engine_dir)
    manifest.verify_files(engine_dir)
    assert (manifest.family, manifest.head) == ("vtimellm", "text")
    assert manifest.text_seam is manifest.seam
    with pytest.raises(UnsupportedError, match="vtimellm"):
        _ = manifest.frames_seam
    own = {name for name in manifest.files if not name.startswith("model_repository/")}
    assert own == {
        "decoder/model.onnx",
        "decoder/model.onnx.data",
        "front.onnx",
        "token_embeddings.npy",
        "tokenizer.json",
        "vision_encoder.onnx",
    }
    assert manifest.encoder_identity["weights"].keys() == {"vision_encoder.onnx"}
    table = np.load(engine_dir / "token_embeddings.npy", mmap_mode="r")
    assert (table.dtype, table.shape) == (np.float32, (640, 64))


def test_building_twice_keeps_the_directory_and_another_adapter_does_not(engine_dir, tmp_path):
    out = tmp_path / "engines"
    shutil.copytree(engine_dir, out)
    steps = []
    kept = build(CHECKPOINTS, out, parts=STAGE_3, on_step=steps.append)
    assert steps == ["reading the checkpoint", "up to date"]
    other = build(CHECKPOINTS, out, parts=MODELS["stage2"])
    assert other.engine_id != kept.engine_id
    assert Manifest.load(out).engine_id == other.engine_id


def test_the_profile_torch_has_a_copy_of_all_parts_that_opens_alone(tmp_path):
    out = tmp_path / "engines"
    built = build(CHECKPOINTS, out, profile="torch", parts=STAGE_3)
    opened = CheckpointStages.open(out / "checkpoint")
    assert opened.manifest.model == built.model
    assert opened.manifest.encoder_identity == built.encoder_identity
    report = check_engines(out, CHECKPOINTS, parts=STAGE_3)
    # PyTorch both times, with other threads.
    assert all(check.error < 1e-5 for check in report.checks)


@pytest.mark.parametrize(
    ("checkpoint", "precision", "message"),
    [
        (CHECKPOINTS, "int8", "int8 is for families of head frames; vtimellm is one of head text"),
        (SHIPPED_CHECKPOINT, "int4", "int4 is for families of head text; videoitg is one of head"),
    ],
)
def test_a_precision_of_the_other_head_is_refused_first(checkpoint, precision, message, tmp_path):
    steps = []
    with pytest.raises(UnsupportedError, match=message):
        build(checkpoint, tmp_path / "engines", precision=precision, on_step=steps.append)
    assert steps == []
    assert not (tmp_path / "engines").exists()


def test_a_checkpoint_of_another_family_is_refused_by_the_one_that_is_named(tmp_path):
    for checkpoint, family in ((SHIPPED_CHECKPOINT, "vtimellm"), (CHECKPOINTS, "videoitg")):
        with pytest.raises(InvalidRequestError):
            build(checkpoint, tmp_path / "engines", family=family)
    assert not list(tmp_path.iterdir())


def test_the_gate_passes_a_good_build_and_keeps_what_it_measured(engine_dir, tmp_path):
    report = check_engines(engine_dir, CHECKPOINTS, parts=STAGE_3)
    assert [(check.output, check.num_tokens) for check in report.checks] == [
        ("features", ()),
        ("next_logits", (128, 140)),
        ("next_tokens", (128, 140)),
    ]
    assert report.mask_probe is None
    # float32 against float32: far below the bound.
    assert all(check.error < 1e-4 for check in report.checks)
    assert "mask probe" not in report.summary
    assert "at up to 268 tokens" in report.summary
    report.save(tmp_path)
    assert GateReport.load(tmp_path) == report
    assert json.loads((tmp_path / "gate.json").read_text())["mask_probe"] is None


def test_int4_is_held_to_the_same_roundings_in_pytorch(tmp_path):
    out = tmp_path / "engines"
    built = build(CHECKPOINTS, out, precision="int4", parts=STAGE_3)
    assert built.precision == "int4"
    features, logits, tokens = check_engines(out, CHECKPOINTS, parts=STAGE_3).checks
    assert features.bound == TOLERANCES["int4"].feature_error
    # The decoder is rounded, the vision stage is not.
    assert features.error < 1e-4
    assert 1e-3 < logits.error <= logits.bound
    assert tokens.bound == 2 * logits.bound
    with Pipeline.open(out) as pipeline:
        assert pipeline.manifest.identity["precision"] == "int4"


@pytest.mark.parametrize("model", ["stage2", "stage2-tuned-projector"])
def test_the_gate_refuses_engines_of_other_weights(engine_dir, model):
    with pytest.raises(EngineMismatchError, match="the decoder's engine differs from PyTorch"):
        check_engines(engine_dir, CHECKPOINTS, parts=MODELS[model])

import json
import re
import shutil

import pytest

from groundserve.engines.manifest import MANIFEST_NAME, Manifest
from groundserve.errors import EngineMismatchError, InvalidRequestError
from python_backend import engine as engine_module
from python_backend import torch_stages
from python_backend.engine import EngineDirectory


@pytest.fixture
def engine_dir(engine_dirs, tmp_path):
    return shutil.copytree(engine_dirs["cpu"], tmp_path / "engines")


def edit(engine_dir, **changes):
    path = engine_dir / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_built_directory_loads_and_verifies(engine_dir):
    manifest = Manifest.load(engine_dir)
    manifest.verify_files(engine_dir)
    assert manifest.profile == "cpu"
    assert manifest.model.image_size == 112
    assert manifest.model.max_tokens == 20480
    assert set(manifest.files) >= {"vision_encoder.onnx", "grounding.onnx", "tokenizer.json"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "must have format_version 3, got 99; rebuild the engine dir"),
        ({"groundserve_version": "0.0.1"}, "was built by groundserve 0.0.1, this is"),
        # Of another version, whose families may be others: the version is what is wrong.
        ({"groundserve_version": "0.0.1", "family": "oracle"}, "built by groundserve 0.0.1"),
        ({"profile": "tpu"}, "unknown profile 'tpu'"),
        ({"profile": "gpu-trt"}, "is called gpu now; .* groundserve build --profile gpu$"),
        (
            {"profile": "gpu", "builder": {"tensorrt_llm": "1.2.1"}},
            "is called gpu-trtllm now; .* groundserve build --profile gpu-trtllm$",
        ),
        (
            {"precision": "fp8"},
            "profile cpu computes in fp32, int8, int4 on cpu, got precision fp8; rebuild",
        ),
        ({"surprise": 1}, r"does not have the expected keys \(surprise\)"),
        ({"checkpoint": None}, r"manifest\.json: checkpoint must be of type dict.*; rebuild"),
        ({"checkpoint": {"name": "tiny"}}, r"checkpoint must have a sha256.*; rebuild"),
        ({"device": None}, r"device must be of type.*; rebuild"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(engine_dir, changes, message):
    edit(engine_dir, **changes)
    with pytest.raises(EngineMismatchError, match=message):
        Manifest.load(engine_dir)


FAMILY_RULE = r"manifest\.json: family must be one that .* serves \(videoitg, .*\), got "


@pytest.mark.parametrize("family", ["oracle", "", None, ["videoitg"]])
def test_a_family_that_is_not_known_is_refused(engine_dir, family):
    edit(engine_dir, family=family)
    with pytest.raises(EngineMismatchError, match=FAMILY_RULE + re.escape(json.dumps(family))):
        Manifest.load(engine_dir)


def test_the_encoders_identity_names_its_family_and_its_graph(engine_dir):
    manifest = Manifest.load(engine_dir)
    assert manifest.encoder_identity == {
        "family": "videoitg",
        "encoder": "onnxruntime",
        "device": "cpu",
        "precision": "fp32",
        "weights": {"vision_encoder.onnx": manifest.files["vision_encoder.onnx"]},
    }


@pytest.mark.parametrize(("name", "problem"), [("none", "no such"), (".", "it has no manifest")])
def test_what_is_no_engine_directory_is_named(tmp_path, name, problem):
    with pytest.raises(InvalidRequestError, match="is no engine directory") as refused:
        Manifest.load(tmp_path / name)
    assert str(tmp_path) in str(refused.value)
    assert problem in str(refused.value)
    assert "make one with: groundserve build" in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", pytest.param("[" * 10**5, id="deep")])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(EngineMismatchError, match="groundserve build"):
        Manifest.load(tmp_path)


def test_a_changed_file_is_refused(engine_dir):
    path = engine_dir / "grounding.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(EngineMismatchError, match=r"grounding\.onnx differs from the hash"):
        EngineDirectory.load(engine_dir, verify_files=True)


def test_a_missing_file_is_refused(engine_dir):
    (engine_dir / "tokenizer.json").unlink()
    with pytest.raises(EngineMismatchError, match=r"tokenizer\.json is missing"):
        EngineDirectory.load(engine_dir, verify_files=True)


def test_an_engine_that_does_not_load_names_itself(engine_dir):
    (engine_dir / "grounding.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineMismatchError, match=r"cannot load grounding\.onnx"):
        EngineDirectory.load(engine_dir).open_grounder(num_threads=1)


def other_engines(engine_dir):
    """Put other engines in the place, as a build does: a rename, not an edit."""
    text = (engine_dir / MANIFEST_NAME).read_text()
    (engine_dir / MANIFEST_NAME).unlink()
    (engine_dir / MANIFEST_NAME).write_text(text)
    edit(engine_dir, source_config={"rebuilt": True})


def test_engines_that_were_rebuilt_are_not_those_of_the_server(engine_dir):
    began_with = Manifest.load(engine_dir).engine_id
    assert EngineDirectory.load(engine_dir, engine_id=began_with).manifest.engine_id == began_with
    other_engines(engine_dir)
    now = Manifest.load(engine_dir).engine_id
    message = f"was rebuilt while it was in use: it holds {now}, in use is {began_with}; start"
    with pytest.raises(EngineMismatchError, match=message):
        EngineDirectory.load(engine_dir, engine_id=began_with)


def test_engines_that_were_taken_away_are_named(engine_dir):
    began_with = Manifest.load(engine_dir).engine_id
    engine_dir.rename(engine_dir.with_name("elsewhere"))
    with pytest.raises(EngineMismatchError, match="rebuilt while it was in use or taken away"):
        EngineDirectory.load(engine_dir, engine_id=began_with)


@pytest.mark.parametrize("stage", ["open_encoder", "open_grounder"])
@pytest.mark.parametrize("profile", ["cpu", "torch"])
def test_engines_replaced_while_a_stage_opens_them_are_refused(
    engine_dirs, tmp_path, monkeypatch, profile, stage
):
    engine_dir = shutil.copytree(engine_dirs[profile], tmp_path / "engines")
    engines = EngineDirectory.load(engine_dir)
    opened = []

    def replacing(kind):
        def open_and_replace(*args, **options):
            opened.append(kind(*args, **options))
            other_engines(engine_dir)
            return opened[-1]

        return open_and_replace

    for module, name in (
        *((engine_module, name) for name in ("OnnxRuntimeEncoder", "OnnxRuntimeGrounder")),
        *((torch_stages, name) for name in ("open_encoder", "open_grounder")),
    ):
        monkeypatch.setattr(module, name, replacing(getattr(module, name)))
    with pytest.raises(EngineMismatchError, match="rebuilt while it was in use"):
        getattr(engines, stage)(num_threads=1)
    assert len(opened) == 1

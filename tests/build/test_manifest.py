import json
import shutil

import pytest

from groundserve.errors import EngineMismatchError
from groundserve.manifest import MANIFEST_NAME, Manifest
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


def test_json_goes_there_and_back(engine_dir):
    text = (engine_dir / MANIFEST_NAME).read_text("utf-8")
    assert Manifest.load(engine_dir).to_json() == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 99}, "must have format_version 2"),
        ({"groundserve_version": "0.0.1"}, "was built by groundserve 0.0.1, this is"),
        ({"profile": "tpu"}, "unknown profile 'tpu'"),
        ({"surprise": 1}, r"does not have the expected keys \(surprise\)"),
        ({"model": {"image_size": 112}}, "does not have the expected keys"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(engine_dir, changes, message):
    edit(engine_dir, **changes)
    with pytest.raises(EngineMismatchError, match=message):
        Manifest.load(engine_dir)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "nonsense"])
def test_a_missing_or_damaged_manifest_is_refused(tmp_path, text):
    if text is not None:
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

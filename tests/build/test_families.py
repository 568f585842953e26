"""A build asks which family a checkpoint is of, and whether a GPU can have it."""

from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import pytest

from engine_build import build
from groundserve import families
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.videoitg import VideoITG
from tests.support.reference import SET_1


class Twin(VideoITG):
    """VideoITG by another name."""

    name = "twin"

    def recognises(self, raw_config):
        return raw_config.get("is_twin", False)


@pytest.fixture
def twin(monkeypatch, tmp_path):
    """A checkpoint of a family that is registered for this test."""
    monkeypatch.setitem(sys.modules, "tests_twin", SimpleNamespace(FAMILY=Twin()))
    monkeypatch.setattr(families, "_MODULES", {"twin": "tests_twin", **families._MODULES})
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(SET_1 / "videoitg-tiny", checkpoint)
    shutil.copytree(SET_1 / "siglip-tiny-patch14-112", tmp_path / "siglip-tiny-patch14-112")
    config = checkpoint / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "is_twin": True}))
    return checkpoint


@pytest.mark.parametrize("profile", ["gpu", "gpu-trtllm"])
@pytest.mark.parametrize("family", ["twin", "vtimellm", "vtgllm", "grounded_videollm"])
def test_a_family_without_engines_for_a_gpu_names_the_profile_to_use(
    twin, tmp_path, profile, family
):
    steps = []
    message = (
        f"^the family {family} has no engines for the profile {profile}; build it with "
        "--profile torch --device cuda for a GPU, or with --profile cpu$"
    )
    with pytest.raises(UnsupportedError, match=message):
        build(twin, tmp_path / "engines", family=family, profile=profile, on_step=steps.append)
    assert steps == []
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('{"model_type": "llava"}', UnsupportedError, r'with model_type "llava" is of none .*'),
        (
            f'{{"model_type": "{"x" * 10**5}"}}',
            UnsupportedError,
            r'with model_type "x{56}\.\.\. .*',
        ),
        ("[]", InvalidRequestError, "is not an object"),
        ("[" * 10**5, InvalidRequestError, "is missing or not JSON"),
    ],
    ids=["other", "long", "list", "deep"],
)
def test_a_config_of_no_family_is_one_error(tmp_path, text, error, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(error, match=rf"^checkpoint .*: config\.json {message}$"):
        families.open_checkpoint(tmp_path)

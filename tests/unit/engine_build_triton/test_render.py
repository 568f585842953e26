from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine_build.triton.__main__ import LAYOUTS, REFERENCE_FAMILY, REFERENCE_MODEL
from engine_build.triton.render import render_repository
from groundserve.errors import InvalidRequestError


def test_plan_is_stored_once_and_moves_with_the_directory(tmp_path):
    engines = tmp_path / "partial"
    engines.mkdir()
    (engines / "vision_encoder.plan").write_bytes(b"plan")
    render_repository(
        LAYOUTS["gpu"], REFERENCE_FAMILY, REFERENCE_MODEL, engines / "model_repository"
    )
    engines = engines.rename(tmp_path / "engines")
    linked = engines / "model_repository" / "vision_encoder" / "1" / "model.plan"
    assert linked.read_bytes() == b"plan"
    assert not linked.is_symlink()
    assert linked.samefile(engines / "vision_encoder.plan")


def test_missing_plan_is_named(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"vision_encoder\.plan must lie beside"):
        render_repository(
            LAYOUTS["gpu"], REFERENCE_FAMILY, REFERENCE_MODEL, tmp_path / "model_repository"
        )


def test_file_system_without_hard_links_is_refused(tmp_path, monkeypatch):
    def link(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(InvalidRequestError, match=r"hard link .*Operation not permitted.*copy it"):
        render_repository(
            LAYOUTS["gpu"], REFERENCE_FAMILY, REFERENCE_MODEL, tmp_path / "model_repository"
        )

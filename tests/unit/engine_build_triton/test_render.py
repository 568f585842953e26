from __future__ import annotations

from engine_build.triton.__main__ import REFERENCE_MODEL
from engine_build.triton.render import render_repository


def test_every_model_has_a_version_folder_that_git_keeps(tmp_path):
    render_repository("cpu", REFERENCE_MODEL, tmp_path / "model_repository")
    found = {
        str(path.relative_to(tmp_path / "model_repository"))
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    python_models = (
        "frame_selector",
        "grounding",
        "video_decode",
        "video_features",
        "vision_encoder",
    )
    assert found == {
        "videoitg/config.pbtxt",
        "videoitg/1/.gitkeep",
        *(f"{name}/config.pbtxt" for name in python_models),
        *(f"{name}/1/model.py" for name in python_models),
    }

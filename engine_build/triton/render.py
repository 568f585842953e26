"""Write the model repository that tritonserver loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine_build.triton.pbtxt import to_pbtxt
from engine_build.triton.specs import TritonModelSpec, python_model_specs
from groundserve.manifest import ModelSpec
from groundserve.profiles import ProfileName

MODEL_SPECS: dict[ProfileName, Callable[[ModelSpec], list[TritonModelSpec]]] = {
    "cpu": python_model_specs,
    "torch": python_model_specs,
}
"""The models of each profile. These two differ only in the engines their models open."""

_MODEL_PY = "from python_backend.triton.{module} import TritonPythonModel as TritonPythonModel\n"


def render_repository(profile: ProfileName, model: ModelSpec, out_dir: Path) -> None:
    """Write `<model>/config.pbtxt` and `<model>/1/` for every model of a profile.

    Args:
        profile: Name of the profile.
        model: Dimensions of the checkpoint.
        out_dir: Directory to fill; made where it does not exist.
    """
    for spec in MODEL_SPECS[profile](model):
        version_dir = out_dir / spec.name / "1"
        version_dir.mkdir(parents=True)
        (version_dir.parent / "config.pbtxt").write_text(to_pbtxt(spec))
        if spec.is_ensemble:
            # The server wants the folder; git and many copying tools drop an empty one.
            (version_dir / ".gitkeep").touch()
        else:
            (version_dir / "model.py").write_text(_MODEL_PY.format(module=spec.name))

"""Write the model repository that tritonserver loads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.model_spec import PLAN_NAME, TritonModelSpec
from engine_build.triton.pbtxt import to_pbtxt
from engine_build.triton.specs import model_specs
from groundserve.engines.manifest import VISION_PLAN_NAME
from groundserve.errors import InvalidRequestError
from groundserve.families.base import Family, ModelSpec

# Triton loads the file by its path and looks for the class by this name.
_MODEL_PY = "from python_backend.triton.{module} import TritonPythonModel as TritonPythonModel\n"


def render_repository(
    layout: RepositoryLayout, family: Family[Any, Any], model: ModelSpec, out_dir: Path
) -> None:
    """Write `<model>/config.pbtxt` and `<model>/1/` for every model of an engine directory.

    Where Triton's TensorRT backend runs the vision encoder, it gets the plan as a hard link to the
    one beside `out_dir`. The plan is stored once, moves with the directory, and is an ordinary file
    to everybody: what copies files without regard for links makes a second copy that works, where
    a symbolic link would dangle as soon as the repository is mounted or copied alone.

    `out_dir` is made in the engine directory, which holds the engines by then.
    """
    for version_dir, spec in write_models(layout, family, model, out_dir):
        if spec.backend == "tensorrt":
            _link_plan(out_dir.parent / VISION_PLAN_NAME, version_dir / PLAN_NAME)


def write_models(
    layout: RepositoryLayout, family: Family[Any, Any], model: ModelSpec, out_dir: Path
) -> list[tuple[Path, TritonModelSpec]]:
    """Write all of every model but engines; return the folder of its version, and its spec."""
    specs = model_specs(layout, family, model)
    return [(write_model(spec, out_dir), spec) for spec in specs]


def write_model(spec: TritonModelSpec, out_dir: Path) -> Path:
    """Write all of one model but its engine; return the folder of its version."""
    version_dir = out_dir / spec.name / "1"
    version_dir.mkdir(parents=True)
    (version_dir.parent / "config.pbtxt").write_text(to_pbtxt(spec))
    if spec.is_ensemble or spec.backend != "python":
        # The server wants the folder; git and many copying tools drop an empty one.
        (version_dir / ".gitkeep").touch()
    else:
        (version_dir / "model.py").write_text(_MODEL_PY.format(module=spec.name))
    return version_dir


def _link_plan(plan: Path, link: Path) -> None:
    try:
        os.link(plan, link)
    except FileNotFoundError as error:
        raise InvalidRequestError(
            f"{plan.name} must lie beside the model repository before it is rendered"
        ) from error
    except OSError as error:
        raise InvalidRequestError(
            f"cannot make a hard link to {plan.name} ({error.strerror}); build the engine "
            "directory on a local file system and copy it from there"
        ) from error

"""Write an engine directory: engines, tokenizer, model repository and the manifest over them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine_build.onnx_export import OPSET, export_grounding, export_vision_encoder
from engine_build.triton.render import render_repository
from groundserve._version import __version__
from groundserve.errors import EngineMismatchError, InvalidRequestError, UnsupportedError
from groundserve.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    REPOSITORY_NAME,
    TOKENIZER_NAME,
    Manifest,
    hash_tree,
)
from groundserve.modeling.checkpoint import Checkpoint, weight_files
from groundserve.profiles import Precision, Profile, get_profile

_RECORDED_PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "tokenizers", "numpy")


def build(
    checkpoint: str | Path,
    out_dir: str | Path,
    *,
    profile: str = "cpu",
    precision: Precision | None = None,
    vision_tower: str | Path | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Manifest:
    """Build the engine directory of one checkpoint for one profile.

    The directory appears complete or not at all. One that was built from the same checkpoint by
    the same versions is kept as it is; any other engine directory at that place is replaced.

    Args:
        checkpoint: Directory in the reference's layout, or a hub id.
        out_dir: Directory to write; its parent must exist.
        profile: Name of the profile.
        precision: The profile's own where None.
        vision_tower: SigLIP directory or hub id, where not found beside the checkpoint.
        on_step: Called with the name of each step as it begins.

    Raises:
        InvalidRequestError: The checkpoint is incomplete, or `out_dir` holds something else.
        UnsupportedError: This profile cannot have that precision, or the model is another one.
    """
    stages = get_profile(profile)
    if precision not in (None, stages.precision):
        raise UnsupportedError(
            f"profile {profile} computes in {stages.precision}, got precision {precision}"
        )
    out = Path(out_dir)
    on_step("reading the checkpoint")
    opened = Checkpoint.open(checkpoint, vision_tower=vision_tower)
    source = opened.describe()
    builder = _builder_versions(stages)
    existing = _existing_manifest(out)
    if (
        existing is not None
        and existing.checkpoint == source
        and existing.builder == builder
        and existing.profile == profile
    ):
        on_step("up to date")
        return existing
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
    except OSError as error:
        raise InvalidRequestError(f"cannot write beside {out}: {error.strerror}") from error
    try:
        manifest = _fill(partial, opened, stages, source, builder, on_step)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _fill(
    directory: Path,
    opened: Checkpoint,
    stages: Profile,
    source: dict[str, Any],
    builder: dict[str, Any],
    on_step: Callable[[str], None],
) -> Manifest:
    tokenizer, pad_token_id = opened.load_tokenizer()
    tokenizer.save(str(directory / TOKENIZER_NAME))
    model = opened.model_spec(pad_token_id=pad_token_id)
    processor = {"image_size": model.image_size, "resample": "bicubic", "mean": 0.5, "std": 0.5}
    (directory / "processor.json").write_text(json.dumps(processor, indent=2) + "\n")
    if "onnxruntime" in (stages.encoder, stages.grounder):
        on_step("exporting the vision encoder")
        export_vision_encoder(opened.load_vision(), directory / "vision_encoder.onnx")
        on_step("exporting the grounding model")
        export_grounding(opened.load_grounding(), directory / "grounding.onnx")
    if "torch" in (stages.encoder, stages.grounder):
        on_step("copying the checkpoint")
        _copy_checkpoint(opened, directory)
    on_step("writing the model repository")
    render_repository(stages.name, model, directory / REPOSITORY_NAME)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        family="videoitg",
        groundserve_version=__version__,
        profile=stages.name,
        precision=stages.precision,
        model=model,
        checkpoint=source,
        source_config=opened.raw_config,
        builder=builder,
        files=hash_tree(directory),
    )
    (directory / MANIFEST_NAME).write_text(manifest.to_json(), "utf-8")
    return manifest


def _copy_checkpoint(opened: Checkpoint, directory: Path) -> None:
    sources = {"checkpoint": opened.directory, "vision_tower": opened.tower_directory}
    for name, source in sources.items():
        if source is None:
            continue
        (directory / name).mkdir()
        others = [*source.glob("*.json"), *source.glob("*.txt")]
        for file in [*weight_files(source), *others]:
            shutil.copyfile(file, directory / name / file.name)


def _existing_manifest(out: Path) -> Manifest | None:
    if not out.exists():
        return None
    if out.is_dir() and not any(out.iterdir()):
        return None
    if not (out / MANIFEST_NAME).is_file():
        raise InvalidRequestError(f"{out} exists and is not an engine directory; choose another")
    try:
        manifest = Manifest.load(out)
        manifest.verify_files(out)
    except EngineMismatchError:
        return None
    return manifest


def _builder_versions(stages: Profile) -> dict[str, Any]:
    return {
        "opset": OPSET if "onnxruntime" in (stages.encoder, stages.grounder) else None,
        "gpu_arch": None,
        "packages": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
    }

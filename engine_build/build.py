"""Write an engine directory: engines, tokenizer, model repository and the manifest over them."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine_build.engines import EngineWriter
from engine_build.families import get_gpu_family
from engine_build.onnx_export import OPSET
from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.render import render_repository
from engine_build.trtllm import PINNED_VERSION, check_builder
from groundserve._version import __version__
from groundserve.engines.engine_use import find_use
from groundserve.engines.manifest import (
    DECODER_NAME,
    FORMAT_VERSION,
    GROUNDING_ONNX_NAME,
    MANIFEST_NAME,
    REPOSITORY_NAME,
    TOKENIZER_NAME,
    Manifest,
    hash_tree,
)
from groundserve.engines.profiles import Device, Precision, Profile, Target, get_profile
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.errors import EngineMismatchError, InvalidRequestError, UnsupportedError
from groundserve.families import get_family, open_checkpoint, recognise_family
from groundserve.families.base import Family, ModelSpec
from groundserve.families.contract import check_family
from groundserve.options import Head

logger = logging.getLogger(__name__)

_RECORDED_PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "tokenizers", "numpy")

# Which stage is quantized is decided where the time goes: vision of many frames, or a decoder that
# reads all its weights for every token.
_HEADS_OF_PRECISIONS: dict[Precision, Head] = {"int8": "frames", "int4": "text"}


def build(
    checkpoint: str | Path,
    out_dir: str | Path,
    *,
    profile: str = "cpu",
    device: Device | None = None,
    precision: Precision | None = None,
    vision_tower: str | Path | None = None,
    family: str | None = None,
    parts: Mapping[str, Sequence[str | Path]] | None = None,
    gpu_archs: Sequence[str] = (),
    num_nvdec: int = 1,
    timing_cache: Path | None = None,
    check: Callable[[Path], None] | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Manifest:
    """Build the engine directory of one checkpoint for one profile.

    The directory appears complete or not at all. One that was built from the same checkpoint by
    the same versions is kept as it is; any other engine directory at that place is replaced, with a
    warning where a server uses it: that one goes on with the engines in its memory.

    Args:
        checkpoint: Directory in the layout of a family's reference, or a hub id.
        out_dir: Directory to write; its parent must exist.
        profile: Name of the profile.
        device: The profile's default where None.
        precision: The profile's default on that device where None.
        vision_tower: Directory or hub id of the vision tower, where not found beside the
            checkpoint.
        family: Name of the family; recognised where None.
        parts: Of the family's `part_names` those that are not to be looked for in the checkpoint,
            each with its files or directories in order.
        gpu_archs: Architectures ("sm_89") to build TensorRT plans for with `tensorrt_rtx`; none:
            with `tensorrt`, for the GPU of this machine.
        num_nvdec: NVDEC engines of the GPU, for a profile that decodes on it.
        timing_cache: File in which `tensorrt` keeps timings, which shorten the next build.
        check: Called with the finished directory before it appears, or with the one that is kept;
            what it raises stops that.
        on_step: Called with the name of each step as it begins.

    Raises:
        InvalidRequestError: The checkpoint is incomplete, `out_dir` holds something else, or
            `timing_cache` cannot be written.
        UnsupportedError: This profile has no such device or precision, no family computes the
            model or its family has not this profile, or this machine cannot build its engines.
        MissingExtraError: A library that builds the profile's engines is not installed.
    """
    stages = get_profile(profile)
    device, precision = stages.choose(device, precision)
    # What would stop the build later is looked at before the checkpoint is read and hashed.
    name = recognise_family(checkpoint) if family is None else family
    gpu_family = get_gpu_family(name, stages.name) if stages.compiles else None
    _check_head(get_family(name), stages, precision)
    if stages.grounder == "tensorrt_llm":
        check_builder()
    if timing_cache is not None:
        _check_timing_cache(timing_cache)
    tensorrt = _tensorrt_target(stages, gpu_archs)
    out = Path(out_dir)
    if out.is_symlink():  # what it points to is replaced, not the link
        out = out.resolve()
    on_step("reading the checkpoint")
    opened_family, opened = open_checkpoint(
        checkpoint, family=name, parts=parts, vision_tower=vision_tower
    )
    writer = EngineWriter(
        family=opened_family,
        checkpoint=opened,
        gpu_family=gpu_family,
        target=Target(
            profile=stages.name,
            device=device,
            precision=precision,
            library=tensorrt.library if tensorrt else None,
        ),
        tensorrt=tensorrt,
        timing_cache=timing_cache,
        on_step=on_step,
    )
    return _write(out, writer, num_nvdec=num_nvdec, check=check or (lambda directory: None))


def _write(
    out: Path, writer: EngineWriter, *, num_nvdec: int, check: Callable[[Path], None]
) -> Manifest:
    """Write the directory, or keep the one that is there."""
    family, opened, target = writer.family, writer.checkpoint, writer.target
    source = opened.describe()
    tokenizer, pad_token_id = opened.load_tokenizer()
    model = opened.model_spec(pad_token_id=pad_token_id)
    check_family(family, opened, model)
    layout = RepositoryLayout(target=target, num_nvdec=num_nvdec).of_model(family, model)
    builder = _builder_versions(layout, writer.tensorrt)
    existing = _existing_manifest(out)
    if (
        existing is not None
        and existing.family == family.name
        and existing.checkpoint == source
        and existing.builder == builder
        and existing.target == target
    ):
        writer.on_step("up to date")
        check(out)
        return existing
    # Beside `out`: a rename between file systems is a copy, and not at once.
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
    except OSError as error:
        raise InvalidRequestError(f"cannot write beside {out}: {error.strerror}") from error
    try:
        tokenizer.save(str(partial / TOKENIZER_NAME))
        manifest = _fill(partial, writer, layout, model, source, builder)
        check(partial)
        _replace(out, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _check_head(family: Family[Any, Any], stages: Profile, precision: Precision) -> None:
    """Refuse a profile, or a precision of one, that is for families of the other head."""
    if stages.grounder == "vllm" and family.head != "text":
        raise UnsupportedError(
            f"profile {stages.name} is for families of head text; {family.name} is one of head "
            f"{family.head}"
        )
    head = _HEADS_OF_PRECISIONS.get(precision, family.head)
    if head != family.head:
        raise UnsupportedError(
            f"{precision} is for families of head {head}; {family.name} is one of head "
            f"{family.head}"
        )


def _replace(out: Path, partial: Path) -> None:
    """Put the new directory in the place of what is there, which is away for two renames only."""
    use = find_use(out)
    if use is not None:
        logger.warning(
            "%s is in use by a server (pid %s), which goes on with the engines it has loaded; for "
            "the new ones start another `groundserve serve`, on other ports",
            out,
            ", ".join(map(str, use.pids)) or "unknown here, as in another container",
        )
    old = out.parent / f".{out.name}.old-{os.getpid()}"
    try:
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except OSError as error:  # the place is a mount point, for one
        if old.exists():
            old.rename(out)
        raise InvalidRequestError(f"cannot replace {out}: {error.strerror}") from error
    shutil.rmtree(old, ignore_errors=True)


def _fill(
    directory: Path,
    writer: EngineWriter,
    layout: RepositoryLayout,
    model: ModelSpec,
    source: dict[str, Any],
    builder: dict[str, Any],
) -> Manifest:
    family, opened, target = writer.family, writer.checkpoint, writer.target
    writer.write(directory, model)
    writer.on_step("writing the model repository")
    layout = replace(layout, grounder_bytes=_head_bytes(directory))
    render_repository(layout, family, model, directory / REPOSITORY_NAME)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        family=family.name,
        groundserve_version=__version__,
        profile=target.profile,
        device=target.device,
        precision=target.precision,
        model=model,
        checkpoint=source,
        source_config=opened.raw_config,
        builder=builder,
        files=hash_tree(directory),
    )
    (directory / MANIFEST_NAME).write_text(manifest.to_json(), "utf-8")
    return manifest


def _head_bytes(directory: Path) -> int | None:
    """Return the bytes of the head's ONNX graph and its weights, None where there is no graph."""
    files = [*directory.glob(f"{GROUNDING_ONNX_NAME}*"), *directory.glob(f"{DECODER_NAME}/*")]
    return sum(path.stat().st_size for path in files) if files else None


def _check_timing_cache(path: Path) -> None:
    """Find out before a build what would stop it at its end."""
    folder = path.parent
    # No pipe or device either: writing to a pipe waits for somebody who reads it.
    can_be_written = (
        path.is_file() and os.access(path, os.W_OK)
        if path.exists() or path.is_symlink()
        else folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    )
    if not can_be_written:
        raise InvalidRequestError(
            "timing_cache must be a file that can be written, in a directory that exists, "
            f"got {path}"
        )


def _tensorrt_target(stages: Profile, gpu_archs: Sequence[str]) -> TensorRTTarget | None:
    if "tensorrt" not in stages.engines:
        if gpu_archs:
            raise UnsupportedError(
                f"gpu_archs are for profiles with TensorRT engines, got {', '.join(gpu_archs)} "
                f"with the profile {stages.name}"
            )
        return None
    return TensorRTTarget.choose(gpu_archs)


def _existing_manifest(out: Path) -> Manifest | None:
    if not out.exists():
        return None
    # A mount point or a folder made beforehand is nobody's directory yet.
    if out.is_dir() and not any(out.iterdir()):
        return None
    if not (out / MANIFEST_NAME).is_file():
        raise InvalidRequestError(f"{out} exists and is not an engine directory; choose another")
    try:
        manifest = Manifest.load(out)
        manifest.verify_files(out)
        _ = manifest.target  # which may not say what it is
    # Damaged or of another version: it is built anew, and replaced.
    except EngineMismatchError:
        return None
    return manifest


def _builder_versions(layout: RepositoryLayout, tensorrt: TensorRTTarget | None) -> dict[str, Any]:
    engines = layout.target.stages.engines
    return {
        # Which the profile names only where it can decode for the model.
        "decoder": layout.target.stages.decoder_of(layout.streams),
        "opset": OPSET if "onnxruntime" in engines else None,
        "tensorrt": tensorrt.describe() if tensorrt else None,
        "tensorrt_llm": PINNED_VERSION if "tensorrt_llm" in engines else None,
        # Not a version, but the repository in the directory follows from it.
        "num_nvdec": layout.num_nvdec if layout.uses_nvdec else None,
        "packages": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
    }

"""`groundserve build`: checkpoint -> engine directory, joined with its gate."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from groundserve import extras
from groundserve.cli._checks import parse_parts
from groundserve.cli._options import AsJson, FamilyName, PartValues, VllmPython
from groundserve.cli._output import print_json, print_line, progress
from groundserve.engines.manifest import MANIFEST_NAME
from groundserve.engines.profiles import PROFILES, get_profile
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.runtime.gpu import current_gpu_arch
from groundserve.scoring.checkpoint_family import checkpoint_family
from groundserve.scoring.gate_report import GateReport
from python_backend.generate.vllm_process import find_python


def command(
    checkpoint: Annotated[str, typer.Option(help="Checkpoint directory, hub id, or digits.")],
    out: Annotated[Path, typer.Option(help="Engine directory to write.")],
    profile: Annotated[str, typer.Option(help=f"One of {', '.join(PROFILES)}.")] = "cpu",
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; the profile's own when left out.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Arithmetic; the profile's own when left out. With the profile cpu, less exact: "
            "int8, the vision encoder's layers in 8 bits, faster; int4, of a family that answers "
            "in text, the decoder's weights in 4 bits, smaller."
        ),
    ] = None,
    vision_tower: Annotated[
        str | None,
        typer.Option(
            help="Vision tower's directory or hub id, when it is not beside the checkpoint."
        ),
    ] = None,
    family: FamilyName = None,
    part: PartValues = None,
    gpu_arch: Annotated[
        list[str] | None,
        typer.Option(
            help="Build TensorRT plans with tensorrt_rtx, for this architecture (sm_89; may be "
            "repeated) and without a GPU. Left out: with tensorrt, for this machine's GPU."
        ),
    ] = None,
    nvdec_engines: Annotated[
        int, typer.Option(min=1, help="NVDEC engines of the GPU, for profiles that decode on it.")
    ] = 1,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="File in which tensorrt keeps timings, which shorten the next build."),
    ] = None,
    unchecked: Annotated[
        bool,
        typer.Option("--unchecked", help="Do not run the engines; for a GPU that is not here."),
    ] = False,
    vllm_python: VllmPython = None,
    as_json: AsJson = False,
) -> None:
    """Build the engine directory that `serve`, `score --engines` and `ask --engines` load.

    The engines are compared with PyTorch before the directory appears; a build that differs fails.

    Example: [bold]groundserve build --checkpoint ./VideoITG-8B --out ./engines[/bold]
    """
    stages = get_profile(profile)
    stages.choose(device, precision)  # type: ignore[arg-type] # which it checks
    if gpu_arch and "tensorrt" not in stages.engines:
        raise UnsupportedError(
            f"--gpu-arch is for profiles with TensorRT engines, got {', '.join(gpu_arch)} with the "
            f"profile {profile}"
        )
    parts = parse_parts(part or [], checkpoint=checkpoint)
    sources: dict[str, Any] = {"vision_tower": vision_tower, "family": family, "parts": parts}
    checkpoint_family(checkpoint, **sources)
    _check_out(out)
    gate = extras.load("groundserve.scoring.gate", "build")
    builder = extras.load("engine_build", "build")
    if stages.grounder == "vllm" and not unchecked:
        find_python()  # for what compares them
    if gpu_arch and not unchecked and current_gpu_arch() not in gpu_arch:
        raise InvalidRequestError(
            f"engines for {', '.join(gpu_arch)} cannot run on this machine, so they cannot be "
            "compared with PyTorch; add --unchecked to build them all the same"
        )
    with progress("building") as step:

        def check(engine_dir: Path) -> None:
            step("checking the engines against PyTorch")
            gate.check_engines(engine_dir, checkpoint, **sources).save(engine_dir)

        manifest = builder.build(
            checkpoint,
            out,
            profile=profile,
            device=device,
            precision=precision,
            **sources,
            gpu_archs=gpu_arch or (),
            num_nvdec=nvdec_engines,
            timing_cache=timing_cache,
            check=None if unchecked else check,
            on_step=step,
        )
    report = GateReport.load(out)
    if as_json:
        found = None if report is None else asdict(report)
        print_json({"out": str(out), "engine": manifest.identity, "gate": found})
        return
    print_line(
        f"engine directory {out}: {manifest.family}, {manifest.profile}, {manifest.precision} on "
        f"{manifest.device}"
    )
    print_line(f"gate: {report.summary if report else 'not run (--unchecked)'}")


def _check_out(out: Path) -> None:
    """Refuse before a build what would stop it at its end."""
    place = Path(os.path.realpath(out))  # a link's end
    if place.is_symlink():
        raise InvalidRequestError(f"cannot write {out}: {os.strerror(errno.ELOOP)}")
    if not place.parent.is_dir():
        raise InvalidRequestError(f"cannot write beside {out}: no such folder: {place.parent}")
    if not os.access(place.parent, os.W_OK):
        raise InvalidRequestError(f"cannot write beside {out}: {os.strerror(errno.EACCES)}")
    if not out.exists() or (out / MANIFEST_NAME).is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise InvalidRequestError(f"{out} exists and is not an engine directory; choose another")

"""A built engine directory against PyTorch in float32, whatever engines its profile names."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from benchmarks.gpu.models import Bench, relative_error
from benchmarks.gpu.parity import mask_probe
from benchmarks.gpu.report import NotRun, PartResult
from benchmarks.gpu.timing import time_call
from groundserve.scoring.comparison import free_memory
from groundserve.scoring.gate import run_reference
from groundserve.scoring.noise import NoiseRequest
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.arrays import Array

_PACKAGES = ("tensorrt", "tensorrt_rtx", "tensorrt_llm")
_TEXT_LENGTHS = (1, 7, 128, 1000)
_NUM_FRAMES = 8


def check_engines(bench: Bench, engine_dir: Path | None, checkpoint: Path | None) -> PartResult:
    """Check and time the engines of a directory, built of a checkpoint or of the shipped one."""
    if engine_dir is None:
        found = {name: importlib.util.find_spec(name) is not None for name in _PACKAGES}
        return NotRun(f"no directory given with --engines; importable: {found}")
    from groundserve.families.videoitg.checkpoint import Checkpoint
    from python_backend.engine import EngineDirectory

    engine = EngineDirectory.load(engine_dir, verify_files=True)
    manifest = engine.manifest
    opened = Checkpoint.open(checkpoint or SHIPPED_CHECKPOINT)
    request = NoiseRequest.make(
        manifest.frames_seam,
        manifest.model,
        vocab_size=opened.vocab_size,
        num_frames=_NUM_FRAMES,
        text_lengths=_TEXT_LENGTHS,
    )
    # On the engines' device: a CPU would take longer than the part may. Gone before they come, for
    # a GPU need not have room for both.
    (expected,) = run_reference(opened, [request], manifest)
    free_memory(manifest.device)
    encoder = engine.open_encoder(num_threads=4)
    grounder: Any = engine.open_grounder(num_threads=4)
    features: Array = encoder.encode(*request.inputs)
    text_ids = list(request.text_ids)
    alone = [grounder.ground(features, ids) for ids in text_ids]
    return {
        "engine": manifest.identity,
        "against": f"float32 PyTorch on {manifest.device}; noise as frames and text",
        "feature_relative_error": relative_error(features, expected.features),
        "logit_relative_error": {
            str(len(ids)): relative_error(one, other)
            for ids, one, other in zip(text_ids, alone, expected.logits, strict=True)
        },
        "mask_probe": mask_probe(grounder, features, text_ids[1]),
        "encode_ms": time_call(lambda: encoder.encode(*request.inputs), bench.device),
        "ground_ms": time_call(lambda: grounder.ground(features, text_ids[1]), bench.device),
    }

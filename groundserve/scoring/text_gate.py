"""The gate of a head of text: its engines against the PyTorch model they came from.

Shape letters: U units, P tokens a unit, D their width, Q questions, n steps, V vocabulary.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groundserve.engines.manifest import Manifest
from groundserve.families.base import TextCheckpoint
from groundserve.families.contract import check_features
from groundserve.scoring.comparison import TOLERANCES, fill_between, free_memory, relative_error
from groundserve.scoring.gate_report import GateReport
from groundserve.scoring.noise import TextRequest
from groundserve.scoring.rounded_models import round_decoder
from python_backend.arrays import to_host
from python_backend.encode.torch import TorchEncoder
from python_backend.engine import EngineDirectory
from python_backend.torch_stages import make_generator

_INT4_FACTOR = 2.0
"""Error of an engine in int4 over that of the same roundings in PyTorch, at most. A value next to
the middle between two steps goes either way, and later layers with it."""


def measure_text(engine: EngineDirectory, opened: TextCheckpoint) -> GateReport:
    """Measure the engines of a head of text against the checkpoint that they were built from.

    Two questions follow one prefix with a short video in it, each with several tokens behind it,
    which PyTorch picks for both.

    Raises:
        EngineMismatchError: An output has another shape than PyTorch's.
        GroundserveError: PyTorch's are not what `groundserve.families.base` says of them.
    """
    manifest = engine.manifest
    request = TextRequest.make(
        manifest.text_seam,
        manifest.model,
        vocab_size=opened.vocab_size,
        device=manifest.device,
    )
    # PyTorch first, and gone before the engines come: a GPU need not have room for both.
    expected, wanted, bound = _run_reference(opened, request, manifest)
    free_memory(manifest.device)
    encoder = engine.open_encoder(num_threads=2)
    features = to_host(encoder.encode(*request.inputs))
    del encoder
    generator = engine.open_generator(num_threads=2)
    try:
        logits = request.generate(generator, expected, forced=wanted.argmax(-1))
    finally:
        generator.close()
    # By how much PyTorch's own choice is the better one, by its own logits.
    chosen = np.take_along_axis(wanted, logits.argmax(-1)[..., None], axis=-1)[..., 0]
    shortfall = float((wanted.max(-1) - chosen).max() / max(1.0, np.abs(wanted).max()))
    checks = (
        request.check(
            "features",
            error=relative_error(features, expected[request.units], floor=1e-6),
            bound=TOLERANCES[manifest.precision].feature_error,
            shape=f"{len(request.units)} units of {features.shape[1]} tokens",
        ),
        request.check("next_logits", error=relative_error(logits, wanted, floor=1.0), bound=bound),
        # Two logits that are each off by the bound change places where they lie closer.
        request.check("next_tokens", error=shortfall, bound=2 * bound),
    )
    return GateReport(device=manifest.device, checks=checks, mask_probe=None, not_run={})


def _run_reference(
    opened: TextCheckpoint, request: TextRequest, manifest: Manifest
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Run PyTorch in float32.

    Return features (U, P, D), PyTorch's at the request's units and in between what lies between
    those; logits (Q, n, V); and how far an engine's logits may be from them.
    """
    device, bound = manifest.device, TOLERANCES[manifest.precision].logit_error
    encoder = TorchEncoder(opened.load_vision(), device=device)
    encoded = to_host(encoder.encode(*request.inputs))
    del encoder
    check_features(manifest.seam, manifest.model, encoded, num_units=len(request.units))
    features = fill_between(encoded, request.units)
    model = opened.load_decoder()
    generator = make_generator(opened.load_front(), model, device=device)
    is_vllm = manifest.stages.grounder == "vllm"
    logits = request.generate(generator, features, past_switch=not is_vllm)
    if is_vllm:  # which tells their log-probabilities
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    if manifest.precision == "int4":
        round_decoder(model)
        rounded = request.generate(generator, features, forced=logits.argmax(-1))
        bound += _INT4_FACTOR * relative_error(rounded, logits, floor=1.0)
    return features, logits, bound

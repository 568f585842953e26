"""What `groundserve doctor --checkpoint` looks at, as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from groundserve.families import get_frames_family, get_text_family, open_checkpoint
from groundserve.families.base import FindingRow
from groundserve.families.default_video import default_plan
from groundserve.scoring.noise import NoiseRequest, TextRequest
from python_backend.arrays import to_host
from python_backend.encode.torch import TorchEncoder
from python_backend.ground.torch import TorchGrounder
from python_backend.torch_stages import make_generator

_PROBE_FRAMES, _PROBE_TOKENS = 4, 8
_FP16_MAX = 65504.0


def check_checkpoint(
    checkpoint: str, sources: Mapping[str, Any], *, activations: bool
) -> Iterator[FindingRow]:
    """Yield what decides a checkpoint's scores or answers and is easily got wrong.

    `sources` are the further arguments of `open_checkpoint`; with `activations` it is run.
    """
    opened: Any  # of either head
    found, opened = open_checkpoint(checkpoint, **sources)
    tokenizer, pad_token_id = opened.load_tokenizer()
    spec = opened.model_spec(pad_token_id=pad_token_id)
    plan = default_plan(found, spec)
    what_frames_become = found.describe(plan.facts)
    yield (
        "family",
        "ok",
        f"{found.name}; a long video gives {len(plan.frame_indices)} frames, {what_frames_become}",
    )
    yield from opened.findings()
    yield "tokens", "ok", f"visual and text together at most {spec.max_tokens or 'unlimited'}"
    added = tokenizer.get_added_tokens_decoder().values()
    special = sorted(token.content for token in added if token.special)
    yield "special tokens", "ok", " ".join(special) or "none"
    num_tokens, num_rows = tokenizer.get_vocab_size(), opened.vocab_size
    status: Any = "ok" if num_tokens <= num_rows else "fail"
    yield "vocabulary", status, f"{num_tokens} tokens, {num_rows} embedding rows"
    if found.head == "text":  # what comes after FEATURES
        behind: list[Any] = [opened.load_front(), opened.load_decoder()]
    else:
        behind = [opened.load_grounding()]
    num_parameters = sum(one.numel() for module in behind for one in module.parameters())
    yield "weights", "ok", f"all behind the vision stage: {num_parameters:,} parameters"
    if activations:
        vision = opened.load_vision()
        peaks = _watch(vision, *behind)
        size = {"vocab_size": opened.vocab_size}
        if found.head == "text":
            text_family = get_text_family(found.name)
            asked = TextRequest.make(text_family, spec, **size, device="cpu")
            features = to_host(TorchEncoder(vision).encode(*asked.inputs))
            asked.generate(make_generator(*behind, device="cpu"), features)
        else:
            frames_family, lengths = get_frames_family(found.name), (_PROBE_TOKENS,)
            request = NoiseRequest.make(
                frames_family, spec, **size, num_frames=_PROBE_FRAMES, text_lengths=lengths
            )
            features = to_host(TorchEncoder(vision).encode(*request.inputs))
            TorchGrounder(*behind).ground(features, request.text_ids[0])
        detail = f"largest magnitude {max(peaks):.4g} on noise; fp16 holds {_FP16_MAX:.0f}"
        yield "activations", "ok" if max(peaks) < _FP16_MAX else "warn", detail


def _watch(*models: nn.Module) -> list[float]:
    """Return what will hold the largest magnitude of each output of their modules."""
    peaks: list[float] = []

    def note(_: object, __: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point() and output.numel():
            peaks.append(float(output.abs().max()))

    for model in models:
        for module in model.modules():
            module.register_forward_hook(note)
    return peaks

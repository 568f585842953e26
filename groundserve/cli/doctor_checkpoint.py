"""What `groundserve doctor --checkpoint` looks at, as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from groundserve.families import get_frames_family, get_text_family, open_checkpoint
from groundserve.families.base import (
    Family,
    FamilyCheckpoint,
    FindingRow,
    FramesFamily,
    ModelSpec,
    TextCheckpoint,
    TextFamily,
)
from groundserve.families.default_video import default_plan

if TYPE_CHECKING:
    from torch import nn

_PROBE_FRAMES, _PROBE_TOKENS = 4, 8
_FP16_MAX = 65504.0


def check_checkpoint(
    checkpoint: str,
    *,
    vision_tower: str | None,
    family: str | None,
    parts: Mapping[str, Sequence[str]],
    activations: bool,
) -> Iterator[FindingRow]:
    """Yield what decides a checkpoint's scores or answers and is easily got wrong.

    Raises:
        InvalidRequestError: The checkpoint cannot be read at all.
    """
    found, opened = open_checkpoint(
        checkpoint, family=family, parts=parts, vision_tower=vision_tower
    )
    tokenizer, pad_token_id = opened.load_tokenizer()
    spec = opened.model_spec(pad_token_id=pad_token_id)
    plan = default_plan(found, spec)
    yield (
        "family",
        "ok",
        f"{found.name}; a long video gives {len(plan.frame_indices)} frames, "
        f"{found.describe(plan.facts)}",
    )
    yield from opened.findings()
    yield "tokens", "ok", f"visual and text together at most {spec.max_tokens or 'unlimited'}"
    added = tokenizer.get_added_tokens_decoder().values()
    special = sorted(token.content for token in added if token.special)
    yield "special tokens", "ok", " ".join(special) or "none"
    num_rows = opened.vocab_size
    enough = tokenizer.get_vocab_size() <= num_rows
    yield (
        "vocabulary",
        "ok" if enough else "fail",
        f"{tokenizer.get_vocab_size()} tokens, {num_rows} embedding rows",
    )
    parameters = [one for module in _behind_vision(found, opened) for one in module.parameters()]
    num_parameters = sum(parameter.numel() for parameter in parameters)
    yield "weights", "ok", f"all behind the vision stage: {num_parameters:,} parameters"
    if activations:
        peak = _largest_activation(found, spec, opened)
        fits = peak < _FP16_MAX
        detail = f"largest magnitude {peak:.4g} on noise; fp16 holds {_FP16_MAX:.0f}"
        yield "activations", "ok" if fits else "warn", detail


def _behind_vision(
    family: Family[Any, Any], opened: FamilyCheckpoint | TextCheckpoint
) -> list[nn.Module]:
    """Read what comes after FEATURES: the grounding stage, or front and decoder."""
    if family.head == "text":
        text = cast(TextCheckpoint, opened)
        return [text.load_front(), text.load_decoder()]
    return [cast(FamilyCheckpoint, opened).load_grounding()]


def _largest_activation(
    family: Family[Any, Any], spec: ModelSpec, opened: FamilyCheckpoint | TextCheckpoint
) -> float:
    """Run seeded noise through the model and return the largest magnitude any module gives."""
    if family.head == "text":
        text = cast(TextCheckpoint, opened)
        return _largest_of_text(get_text_family(family.name), spec, text)
    frames = cast(FamilyCheckpoint, opened)
    return _largest_of_frames(get_frames_family(family.name), spec, frames)


def _largest_of_frames(
    family: FramesFamily[Any, Any], spec: ModelSpec, opened: FamilyCheckpoint
) -> float:
    from groundserve.scoring.noise import NoiseRequest
    from python_backend.encode.torch import TorchEncoder
    from python_backend.ground.torch import TorchGrounder

    vision, grounding = opened.load_vision(), opened.load_grounding()
    peaks = _watch(vision, grounding)
    request = NoiseRequest.make(
        family,
        spec,
        vocab_size=opened.vocab_size,
        num_frames=_PROBE_FRAMES,
        text_lengths=(_PROBE_TOKENS,),
    )
    features = TorchEncoder(vision).encode(*request.inputs)
    TorchGrounder(grounding).ground(features, request.text_ids[0])
    return max(peaks)


def _largest_of_text(family: TextFamily[Any], spec: ModelSpec, opened: TextCheckpoint) -> float:
    from groundserve.scoring.text_noise import TextRequest
    from python_backend.encode.torch import TorchEncoder
    from python_backend.generate import Generator
    from python_backend.generate.torch import TorchDecoder, TorchFront

    vision, front, decoder = opened.load_vision(), opened.load_front(), opened.load_decoder()
    peaks = _watch(vision, front, decoder)
    request = TextRequest.make(family, spec, vocab_size=opened.vocab_size, device="cpu")
    generator = Generator(
        front=TorchFront(front, decoder.get_input_embeddings()), decoder=TorchDecoder(decoder)
    )
    request.generate(generator, request.encode(TorchEncoder(vision)))
    return max(peaks)


def _watch(*models: nn.Module) -> list[float]:
    """Return what will hold the largest magnitude of each output of their modules."""
    import torch

    peaks: list[float] = []

    def note(_: object, __: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.is_floating_point() and output.numel():
            peaks.append(float(output.abs().max()))

    for model in models:
        for module in model.modules():
            module.register_forward_hook(note)
    return peaks

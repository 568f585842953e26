"""Do 16 bits on the device compute what 32 bits compute?"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.models import (
    Bench,
    random_grounding,
    random_request,
    random_vision,
    relative_error,
)
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.plan import VideoITGSpec
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.arrays import Array
from python_backend.encode.torch import TorchEncoder
from python_backend.ground.torch import TorchGrounder

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_NUM_VIDEOS = 3
_NUM_SECONDS = 48
_NUM_SELECTED = 8
_SEED = 20261121
_SLICE_LAYERS = 2
_SLICE_FRAMES = 8


def digits_videos(image_size: int) -> list[tuple[NDArray[np.uint8], list[str]]]:
    """Return frames uint8 (T, S, S, 3) and questions of held-out videos, never encoded."""
    from PIL import Image

    from train.digits.dataset import draw_video
    from train.digits.render import render_second

    videos = []
    for number in range(_NUM_VIDEOS):
        rng = np.random.default_rng((_SEED, number))
        world, questions = draw_video(rng, split="test", num_frames=_NUM_SECONDS)
        pictures = [Image.fromarray(render_second(world, i)) for i in range(_NUM_SECONDS)]
        side = (image_size, image_size)
        frames = np.stack([np.asarray(picture.resize(side)) for picture in pictures])
        videos.append((frames, [question.text for question in questions]))
    return videos


def check_digits(bench: Bench) -> dict[str, Any]:
    """Hold each dtype on the device against float32 on the CPU, with trained weights."""
    opened = Checkpoint.open(SHIPPED_CHECKPOINT)
    tokenizer, pad_token_id = opened.load_tokenizer()
    model = opened.model_spec(pad_token_id=pad_token_id)
    queries = QueryTokenizer(tokenizer, pad_token_id=pad_token_id)
    requests = [
        (frames, [queries.text_ids(text) for text in texts])
        for frames, texts in digits_videos(model.image_size)
    ]
    reference = TorchEncoder(opened.load_vision()), TorchGrounder(opened.load_grounding())
    expected = _score_digits(*reference, requests, model)
    rows = {}
    for dtype in _DTYPES:
        place: dict[str, Any] = {"dtype": dtype, "device": bench.device}
        encoder = TorchEncoder(opened.load_vision(**place), device=bench.device)
        grounder = TorchGrounder(opened.load_grounding(**place), device=bench.device)
        got = _score_digits(encoder, grounder, requests, model)
        rows[str(dtype)] = _compare(got, expected) | {
            "mask_probe": mask_probe(grounder, got[0][0], requests[0][1][0])
        }
    return {"videos": len(requests), "frames": _NUM_SECONDS, "against": "float32 on CPU", **rows}


def _score_digits(
    encoder: TorchEncoder,
    grounder: TorchGrounder,
    requests: list[tuple[NDArray[np.uint8], list[NDArray[np.int64]]]],
    model: VideoITGSpec,
) -> list[tuple[Array, NDArray[np.float32]]]:
    """Return for each video its features and float32 (Q, T), logits."""
    scored = []
    for frames, questions in requests:
        grid = grid_side(len(frames), vision_token_num=model.vision_token_num, side=model.side)
        features = encoder.encode(frames, pooling_weights(grid, side=model.side)[None])
        logits = np.stack([grounder.ground(features, text_ids) for text_ids in questions])
        scored.append((features, logits))
    return scored


def _compare(
    got: list[tuple[Array, NDArray[np.float32]]], expected: list[tuple[Array, NDArray[np.float32]]]
) -> dict[str, Any]:
    rows = [
        (one, other)
        for (_, logits), (_, others) in zip(got, expected, strict=True)
        for one, other in zip(logits, others, strict=True)
    ]
    overlaps = [np.intersect1d(_best(one), _best(other)).size for one, other in rows]
    return {
        "feature_relative_error": max(
            relative_error(one[0], other[0]) for one, other in zip(got, expected, strict=True)
        ),
        "logit_relative_error": max(relative_error(one, other) for one, other in rows),
        "logit_largest_difference": float(max(np.abs(one - other).max() for one, other in rows)),
        "score_largest_difference": float(
            max(np.abs(_sigmoid(one) - _sigmoid(other)).max() for one, other in rows)
        ),
        "questions": len(rows),
        f"top_{_NUM_SELECTED}_overlap_mean": float(np.mean(overlaps) / _NUM_SELECTED),
        f"top_{_NUM_SELECTED}_overlap_least": float(min(overlaps) / _NUM_SELECTED),
    }


def _best(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.argsort(-logits, kind="stable")[:_NUM_SELECTED]


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def mask_probe(grounder: TorchGrounder, features: Array, text_ids: NDArray[np.int64]) -> float:
    """Return how far the first frame's logit moves when the last text token changes.

    Exactly 0 means that attention is causal.
    """
    changed = text_ids.copy()
    changed[-1] = changed[-1] - 1 if changed[-1] else 1
    logits = [grounder.ground(features, ids)[0] for ids in (text_ids, changed)]
    return float(abs(logits[0] - logits[1]))


def check_full_size(bench: Bench) -> dict[str, Any]:
    """Errors of 16 bits with random weights: the tower, a slice of the decoder; the mask probe.

    The reference is float32 on the same device, whose own error is far smaller. The weights are
    rounded to bfloat16 first and are the same in every dtype.
    """
    size, device = bench.size, bench.device
    request = random_request(size, _SLICE_FRAMES, device=device)
    vision = random_vision(size, dtype=torch.bfloat16, device=device)
    decoder = random_grounding(size, dtype=torch.bfloat16, device=device, num_layers=_SLICE_LAYERS)
    features: dict[torch.dtype, Array] = {}
    logits: dict[torch.dtype, NDArray[np.float32]] = {}
    for dtype in _DTYPES:
        encoder = TorchEncoder(_cast(vision, dtype), device=device)
        features[dtype] = encoder.encode(request.frames, request.pooling[None])
        grounder = TorchGrounder(_cast(decoder, dtype), device=device)
        logits[dtype] = grounder.ground(features[torch.float32], request.text_ids)
    rows = {
        str(dtype): {
            "feature_relative_error": relative_error(features[dtype], features[torch.float32]),
            "logit_relative_error": relative_error(logits[dtype], logits[torch.float32]),
        }
        for dtype in _DTYPES[1:]
    }
    probe = random_request(size, min(size.main_frames, 64), device=device)
    moved = mask_probe(bench.stages[1], bench.encode(probe), probe.text_ids)
    return {
        "against": "float32 on the device",
        "frames": _SLICE_FRAMES,
        "tokens": size.num_tokens(_SLICE_FRAMES),
        "vision_layers": size.num_vision_layers,
        "decoder_layers": _SLICE_LAYERS,
        **rows,
        "mask_probe_all_layers": moved,
    }


def _cast(model: Any, dtype: torch.dtype) -> Any:
    """Return a copy whose parameters alone have another dtype; rotary frequencies stay float32."""
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        parameter.data = parameter.data.to(dtype)
    return copied

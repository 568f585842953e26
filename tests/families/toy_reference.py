"""A toy checkpoint, and what its model computes of a video, in whole numbers by numpy alone.

Weights are 0, 1 and -1 times a power of two, and all else that is multiplied or divided by is one,
too. So every product and, in any order, every sum that float32 makes is exact as long as the
magnitudes of its terms add up to less than 2**24 of their last place, which is asserted here: an
engine's answer must be this one to the last bit.

Shape letters: T frames, S image side, p side of a patch, N patches of a frame, L tokens, D width.
"""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

SIZE, PATCH, WIDTH, STRIDE = 32, 8, 16, 3
MAX_FRAMES = 70
"""More than a chunk has."""
WEIGHT_SCALE = 0.25
WORDS = ["[PAD]", "[UNK]", "[END]", "when", "does", "a", "man", "on", "red", "bike", "turn"]
VOCAB_SIZE = 16
"""Rows of the table; a few have no word."""
MAX_TOKENS = MAX_FRAMES + 8


def write_checkpoint(directory: Path) -> Path:
    """Write a checkpoint in the toy's layout."""
    directory.mkdir()
    config = {
        "model_type": "toy",
        "image_size": SIZE,
        "frame_stride": STRIDE,
        "max_frames": MAX_FRAMES,
        "width": WIDTH,
        "vocab_size": VOCAB_SIZE,
        "max_tokens": MAX_TOKENS,
    }
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    random = np.random.default_rng(20261122)
    shapes = {
        "vision.project.weight": (WIDTH, 3 * PATCH**2),
        "vision.project.bias": (WIDTH,),
        "grounding.embed_tokens.weight": (VOCAB_SIZE, WIDTH),
    }
    signs = {name: random.integers(-1, 2, shape) for name, shape in shapes.items()}
    tensors = {name: (WEIGHT_SCALE * sign).astype(np.float32) for name, sign in signs.items()}
    save_file(tensors, directory / "model.safetensors")
    words = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens(["[PAD]", "[END]"])
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def text_ids(query: str) -> list[int]:
    """The tokens of a question."""
    return [WORDS.index(word) if word in WORDS else 1 for word in query.split()] + [2]


def decode(clip: Path) -> tuple[list[int], NDArray[np.uint8]]:
    """Return the ordinals and their middle squares, uint8 (T, S, S, 3)."""
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    ordinals = list(range(0, len(frames), STRIDE))[:MAX_FRAMES]
    return ordinals, np.stack([_middle_square(frames[i]) for i in ordinals])


def _middle_square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    short = min(image.size)
    width, height = (int(SIZE * side / short) for side in image.size)
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + SIZE, top + SIZE)))


def frame_logits(checkpoint: Path, frames: NDArray[np.uint8], query: str) -> NDArray[np.float32]:
    """Score frames uint8 (T, S, S, 3): (T,).

    The question's number of tokens must be a power of two, for their mean to be exact.
    """
    signs = {
        name: (tensor / WEIGHT_SCALE).astype(np.int64)
        for name, tensor in load_file(checkpoint / "model.safetensors").items()
    }
    weight, bias = signs["vision.project.weight"], signs["vision.project.bias"]
    side = SIZE // PATCH
    patches = frames.astype(np.int64).reshape(len(frames), side, PATCH, side, PATCH, 3)
    patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(len(frames), side**2, -1)  # (T, N, 3pp)
    # In units of WEIGHT_SCALE / 256.
    hidden = np.maximum(_product(patches, weight.T) + 256 * bias, 0)
    features = hidden.sum(axis=1)  # (T, D), the mean of N = side**2 in units of 1 / N of that
    assert features.max() < 2**24
    ids = text_ids(query)
    assert len(ids).bit_count() == 1
    question = signs["grounding.embed_tokens.weight"][ids].sum(axis=0)  # (D,), likewise
    logits = _product(features, question)
    unit = WEIGHT_SCALE / 256 / side**2 * WEIGHT_SCALE / len(ids)
    return (logits * unit).astype(np.float32)


def _product(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    assert (np.abs(left) @ np.abs(right)).max() < 2**24
    return np.asarray(left @ right)

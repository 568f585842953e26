"""InternVideo2 of small width beside the shipped answerer's CLIP, and projectors behind both.

A token learns to be the row that the shipped answerer has of a frame that shows what its patch
shows and nothing else; one of CLIP's, of the whole key frame.

Shape letters: U segments, F frames of one, S side of a frame, P tokens of a segment, H width of the
decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from groundserve.families.clip import ClipTowerConfig
from groundserve.families.grounded_videollm.internvideo2 import InternVideo2Config
from groundserve.families.grounded_videollm.vision import VisionConfig, VisionEncoder
from train.digits.answers.answerer import Answerer
from train.digits.answers.seeing import frame_loss, frame_vectors, patch_vectors
from train.digits.answers.training import fast_precision, optimise
from train.digits.answers.turns import draw_world
from train.digits.render import render_second
from train.digits.world import NUM_DIGITS

NUM_SEGMENTS, NUM_FRAMES, KEY = 12, 8, 4
SECONDS = tuple(place / 2 for place in range(NUM_SEGMENTS * NUM_FRAMES))
"""When each of the frames that the family samples of 48 seconds is shown."""
_CLIP = ClipTowerConfig(
    hidden_size=96,
    intermediate_size=288,
    num_hidden_layers=3,  # of 4
    num_attention_heads=4,
    image_size=72,
    patch_size=12,
)
_INTERNVIDEO2 = InternVideo2Config(
    hidden_size=96,
    intermediate_size=288,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=72,
    patch_size=18,
    num_frames=NUM_FRAMES,
)
CONFIG = VisionConfig(llm="llama3", clip=_CLIP, internvideo2=_INTERNVIDEO2, hidden_size=128)
TEMPORAL_SIDE = 4
"""Tokens a side of each of a segment's frames, which are its patches."""
_VIDEOS, _SEGMENTS = 4, 4
"""Videos a step, and segments of each."""
_LEARNING_RATE = 1.5e-3


def new_vision(answerer: Answerer) -> VisionEncoder:
    """Return towers and projectors with first values; CLIP's are the answerer's, and stay so."""
    encoder = VisionEncoder(CONFIG)
    encoder.clip.load_state_dict(answerer.vision.state_dict(), strict=False)
    encoder.clip.requires_grad_(False)
    tower = encoder.internvideo2
    nn.init.normal_(tower.cls_token, std=0.5)
    # Patches of a frame are alike, and what is alike attends to what is alike from the first step
    # on: a tower as small as this one takes long to find which patches are of one frame.
    of_time = torch.randn(NUM_FRAMES, 1, _INTERNVIDEO2.hidden_size)
    of_place = 0.5 * torch.randn(1, _INTERNVIDEO2.side**2, _INTERNVIDEO2.hidden_size)
    tower.pos_embed.data.zero_()[0, 1:] = (of_time + of_place).flatten(0, 1)
    for block in tower.blocks:
        attention = cast(nn.Linear, block.get_submodule("attn.qkv"))
        query, key, _ = attention.weight.data.chunk(3)
        key.copy_(query)
    for name, parameter in tower.named_parameters():
        if name.endswith("gamma"):
            nn.init.ones_(parameter)
    nn.init.zeros_(cast(nn.Parameter, encoder.spatial.terminator)).requires_grad_(False)
    return encoder


def train_vision(
    answerer: Answerer,
    *,
    seed: int,
    num_steps: int,
    on_step: Callable[[int, float, Tensor], None],
) -> VisionEncoder:
    """Train InternVideo2 and both projectors; `on_step` gets the share of digits found."""
    torch.manual_seed(seed)
    encoder = new_vision(answerer)
    optimise(
        [parameter for parameter in encoder.parameters() if parameter.requires_grad],
        _losses(encoder, answerer, seed=seed),
        num_steps=num_steps,
        learning_rate=_LEARNING_RATE,
        on_step=on_step,
    )
    return encoder.eval().requires_grad_(False)


def _losses(
    encoder: VisionEncoder, answerer: Answerer, *, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    weight, bias = answerer.projection()
    to_said, spread = torch.linalg.pinv(weight), weight.square().sum(1).mean()
    rng = np.random.default_rng([seed, 0])
    while True:
        frames, wanted, keys = [], [], []
        for _ in range(_VIDEOS):
            world = draw_world("train", seed, int(rng.integers(2**31)))
            for segment in rng.permutation(NUM_SEGMENTS)[:_SEGMENTS]:
                seconds = SECONDS[NUM_FRAMES * segment : NUM_FRAMES * (segment + 1)]
                frames.append(resized([render_second(world, second) for second in seconds]))
                wanted.append(patch_vectors(world, seconds, side=TEMPORAL_SIDE).flatten(0, 1))
                key = frame_vectors(world, [seconds[KEY]])
                keys.append(key.expand(CONFIG.num_spatial_tokens, -1))
        pixels = torch.stack(frames)
        vectors = torch.cat([torch.stack(keys), torch.stack(wanted)], 1).flatten(0, 1)
        with fast_precision():
            rows = encoder(pixels, pixels[:, KEY])[:, :-1].float().flatten(0, 1)
        said = (rows - bias) @ to_said.T
        loss = frame_loss(said, vectors) + F.mse_loss(rows, vectors @ weight.T + bias) / spread
        shown = vectors[:, :NUM_DIGITS] > 0
        yield loss, (said[:, :NUM_DIGITS] > 0)[shown].float().mean()


def resized(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return uint8 (F, S, S, 3) as serving makes them."""
    size = (_CLIP.image_size, _CLIP.image_size)
    small = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    return torch.from_numpy(np.stack([np.asarray(one) for one in small]))

"""InternVideo2 of small width beside the shipped answerer's CLIP, and projectors behind both.

Every token of a frame learns to be the row that the shipped answerer has of the whole frame, so all
tokens of a frame are nearly the same.

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
from train.digits.answers.seeing import frame_loss, frame_vectors, patch_loss
from train.digits.answers.training import fast_precision, optimise
from train.digits.answers.turns import draw_world
from train.digits.render import NO_DIGIT, patch_classes, render_second
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
_BATCH_SIZE, _SEGMENTS_PER_VIDEO = 16, 4
_LEARNING_RATE = 1.5e-3
_PATCH_WEIGHT = 0.5


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
    """Train InternVideo2 and both projectors; `on_step` gets the share of rows right."""
    torch.manual_seed(seed)
    encoder = new_vision(answerer)
    patches = nn.Linear(_INTERNVIDEO2.hidden_size, NO_DIGIT + 1)
    optimise(
        [*(p for p in encoder.parameters() if p.requires_grad), *patches.parameters()],
        _losses(encoder, patches, answerer, seed=seed),
        num_steps=num_steps,
        learning_rate=_LEARNING_RATE,
        on_step=on_step,
    )
    return encoder.eval().requires_grad_(False)


def _losses(
    encoder: VisionEncoder, patches: nn.Module, answerer: Answerer, *, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    weight, bias = answerer.projection()
    to_said = torch.linalg.pinv(weight)
    spread = weight.square().sum(1).mean()
    rng = np.random.default_rng([seed, 0])
    side = _INTERNVIDEO2.side
    while True:
        frames, wanted, classes = [], [], []
        for place in range(_BATCH_SIZE):
            if place % _SEGMENTS_PER_VIDEO == 0:
                world = draw_world("train", seed, int(rng.integers(2**31)))
                segments = rng.permutation(NUM_SEGMENTS)
            first = NUM_FRAMES * int(segments[place % _SEGMENTS_PER_VIDEO])
            seconds = SECONDS[first : first + NUM_FRAMES]
            shown = [render_second(world, second) for second in seconds]
            frames.append(resized(shown))
            wanted.append(frame_vectors(world, seconds))
            classes.append([patch_classes(world, second, side=side) for second in seconds])
        pixels, vectors = torch.stack(frames), torch.stack(wanted)  # (U, F, 3*C)
        with fast_precision():
            seen, temporal = encoder.see(pixels, pixels[:, KEY])
            told_patches = patches(temporal).float()
            rows = torch.cat([encoder.spatial(seen)[0], encoder.temporal_projector(temporal)], 1)
        key = vectors[:, [KEY]].expand(-1, CONFIG.num_spatial_tokens, -1)
        vectors = torch.cat([key, vectors.repeat_interleave(side**2, dim=1)], 1).flatten(0, 1)
        rows = rows.float().flatten(0, 1)
        said = (rows - bias) @ to_said.T
        true_rows = vectors @ weight.T + bias
        shown_where = torch.from_numpy(np.array(classes)).flatten(1)
        loss = frame_loss(said, vectors) + _PATCH_WEIGHT * patch_loss(told_patches, shown_where)
        right = (said[:, :NUM_DIGITS] > 0) == (vectors[:, :NUM_DIGITS] > 0)
        yield loss + F.mse_loss(rows, true_rows) / spread, right.all(dim=1).float().mean()


def resized(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return uint8 (F, S, S, 3) as serving makes them."""
    size = (_CLIP.image_size, _CLIP.image_size)
    small = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    return torch.from_numpy(np.stack([np.asarray(one) for one in small]))

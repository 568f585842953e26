"""InternVideo2 of small width beside the shipped answerer's CLIP, and projectors behind both.

Every token of a frame learns to be the row that the shipped answerer has of the whole frame, with a
code of its second within the segment. It is not learnt in one go: first some blocks learn to say
what each patch shows, then those and more behind them, what the frame shows.

Shape letters: n segments, F frames of one, S side of a frame, P rows of a segment, of which one
ends it, H width of the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
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
from train.digits.answers.turns import NUM_SECONDS, draw_world
from train.digits.render import render_second
from train.digits.world import NUM_DIGITS, World

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
_BLOCKS_FOR_PATCHES, _BLOCKS = 4, 6
CONFIG = VisionConfig(
    llm="llama3",
    clip=_CLIP,
    internvideo2=InternVideo2Config(
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=_BLOCKS,
        num_attention_heads=4,
        image_size=72,
        patch_size=18,
        num_frames=NUM_FRAMES,
    ),
    hidden_size=128,
)
_SIDE = 4
NUM_TOKENS = _SIDE**2
"""Of each frame, which are its patches."""
_VIDEOS, _SEGMENTS = 4, 4
"""Videos a step, and segments of each."""
_LEARNING_RATE = {"patches": 1.5e-3, "frames": 1e-3}
_CODE, _CODE_SEED = 0.7, 101
_SHARPNESS = 1.3


def new_vision(answerer: Answerer, *, num_blocks: int = _BLOCKS) -> VisionEncoder:
    """Return towers and projectors with first values; CLIP's are the answerer's, and stay so."""
    tower_config = replace(CONFIG.internvideo2, num_hidden_layers=num_blocks)
    encoder = VisionEncoder(replace(CONFIG, internvideo2=tower_config))
    encoder.clip.load_state_dict(answerer.vision.state_dict(), strict=False)
    encoder.clip.requires_grad_(False)
    tower = encoder.internvideo2
    nn.init.normal_(tower.cls_token, std=0.5)
    # Patches of a frame begin alike, and similar ones attend to each other from the first step on:
    # a tower as small as this one takes long to find which patches are of one frame.
    of_time = torch.randn(NUM_FRAMES, 1, tower_config.hidden_size)
    of_place = 0.5 * torch.randn(1, tower_config.side**2, tower_config.hidden_size)
    tower.pos_embed.data.zero_()[0, 1:] = (of_time + of_place).flatten(0, 1)
    for block in tower.blocks:
        query, key, _ = cast(nn.Linear, block.get_submodule("attn.qkv")).weight.data.chunk(3)
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
    num_steps: Mapping[str, int],
    report: Callable[[str], Callable[[int, float, Tensor], None]],
) -> VisionEncoder:
    """Train InternVideo2 and both projectors, first for patches, then for frames.

    `report` returns what takes step, loss and the share of digits found.
    """
    torch.manual_seed(seed)
    encoder = new_vision(answerer, num_blocks=_BLOCKS_FOR_PATCHES)
    for stage, name in enumerate(("patches", "frames")):
        if name == "frames":
            encoder = _with_blocks_for_frames(encoder, answerer)
        optimise(
            [parameter for parameter in encoder.parameters() if parameter.requires_grad],
            _losses(encoder, answerer, name, seed=[seed, stage]),
            num_steps=num_steps[name],
            learning_rate=_LEARNING_RATE[name],
            on_step=report(name),
        )
    return encoder.eval().requires_grad_(False)


def _with_blocks_for_frames(trained: VisionEncoder, answerer: Answerer) -> VisionEncoder:
    """Return the encoder with new blocks behind, in which tokens attend to those of their frame."""
    encoder = new_vision(answerer)
    encoder.load_state_dict(trained.state_dict(), strict=False)
    of_patches = encoder.internvideo2.pos_embed.data[0, 1:]
    of_times = torch.unflatten(of_patches, 0, (NUM_FRAMES, -1)).mean(1)
    # (F - 1, C), what tells the frames of a segment apart.
    directions = torch.linalg.svd(of_times - of_times.mean(0)).Vh[: NUM_FRAMES - 1]
    num_heads = CONFIG.internvideo2.num_attention_heads
    head_size = CONFIG.internvideo2.hidden_size // num_heads
    for block in encoder.internvideo2.blocks[_BLOCKS_FOR_PATCHES:]:
        heads = [
            torch.linalg.qr(torch.randn(head_size, NUM_FRAMES - 1)).Q for _ in range(num_heads)
        ]
        query, key, _ = cast(nn.Linear, block.get_submodule("attn.qkv")).weight.data.chunk(3)
        query.copy_(torch.cat(heads) @ directions)
        key.copy_(query)
        for name in ("attn.q_norm", "attn.k_norm"):
            nn.init.constant_(cast(Tensor, block.get_submodule(name).weight), _SHARPNESS)
    return encoder


def _losses(
    encoder: VisionEncoder, answerer: Answerer, name: str, *, seed: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    weight, bias = answerer.projection()
    to_said, spread = torch.linalg.pinv(weight), weight.square().sum(1).mean()
    codes = second_codes() if name == "frames" else torch.zeros(())
    whole = partial(_whole_frames, copies=NUM_TOKENS)
    vectors_of = whole if name == "frames" else partial(patch_vectors, side=_SIDE)
    rng = np.random.default_rng(seed)
    while True:
        frames, wanted, keys = [], [], []
        for _ in range(_VIDEOS):
            world = draw_world("train", seed[0], int(rng.integers(2**31)))
            for segment in rng.permutation(NUM_SEGMENTS)[:_SEGMENTS]:
                seconds = SECONDS[NUM_FRAMES * segment : NUM_FRAMES * (segment + 1)]
                frames.append(resized([render_second(world, second) for second in seconds]))
                wanted.append(vectors_of(world, seconds).flatten(0, 1))
                keys.append(
                    _whole_frames(world, [seconds[KEY]], copies=CONFIG.num_spatial_tokens)[0]
                )
        pixels = torch.stack(frames)
        vectors = torch.cat([torch.stack(keys), torch.stack(wanted)], 1)
        with fast_precision():
            rows = encoder(pixels, pixels[:, KEY])[:, :-1].float() - codes
        said = ((rows - bias) @ to_said.T).flatten(0, 1)
        misplaced = F.mse_loss(rows, vectors @ weight.T + bias) / spread
        shown = vectors.flatten(0, 1)[:, :NUM_DIGITS] > 0
        found = (said[:, :NUM_DIGITS] > 0)[shown].float().mean()
        yield frame_loss(said, vectors.flatten(0, 1)) + misplaced, found


def _whole_frames(world: World, seconds: Sequence[float], *, copies: int) -> Tensor:
    return frame_vectors(world, seconds)[:, None].expand(-1, copies, -1)


def second_codes() -> Tensor:
    """Return (P - 1, H), what rows of a segment add to tell their second; CLIP's add nothing."""
    num_seconds = NUM_SECONDS // NUM_SEGMENTS
    generator = torch.Generator().manual_seed(_CODE_SEED)
    codes = _CODE * torch.randn(num_seconds, CONFIG.hidden_size, generator=generator)
    of_frames = codes.repeat_interleave(NUM_TOKENS * NUM_FRAMES // num_seconds, dim=0)
    return torch.cat([torch.zeros(CONFIG.num_spatial_tokens, CONFIG.hidden_size), of_frames])


def resized(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return uint8 (F, S, S, 3) as serving makes them."""
    size = (_CLIP.image_size, _CLIP.image_size)
    small = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    return torch.from_numpy(np.stack([np.asarray(one) for one in small]))

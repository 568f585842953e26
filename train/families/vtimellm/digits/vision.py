"""A CLIP tower for MovingDigits, trained from nothing.

At full size the tower is downloaded and stays frozen, so something must stand in for its
pretraining: a picture's vector learns to tell in its coordinates which digits are shown, and where.

Shape letters: n pictures, P patches, D width of a picture's vector, C ten digits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from groundserve.families.vtimellm.clip import ClipConfig, ClipSource
from groundserve.families.vtimellm.vision import VisionEncoder
from train.digits.answers.training import fast_precision, optimise, patch_loss
from train.digits.handwritten import GLYPH_SIDE
from train.digits.render import patch_classes, render_second
from train.digits.world import NUM_DIGITS, SIDE, World, make_scene

TOWER = ClipConfig(
    hidden_size=96,
    intermediate_size=288,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=72,
    patch_size=12,
    projection_dim=3 * NUM_DIGITS,
)
"""Its vector has for each digit whether it is shown, as a logit, and where its middle lies."""

_PLACE_SCALE = 4.0
"""How much larger than in [-1, 1] it tells places, to be as large as the logits."""
_PLACE_WEIGHT = 0.5
_PATCH_WEIGHT = 0.5
"""Of what the patches before the last layer show, told by a head that is left out at the end."""


@dataclass(frozen=True, kw_only=True)
class VisionTraining:
    """How the tower is trained."""

    seed: int
    num_steps: int = 3000
    batch_size: int = 32
    """Pictures a step, never the same one twice."""
    learning_rate: float = 1.5e-3


def train_vision(
    training: VisionTraining, *, on_step: Callable[[int, float, Tensor], None]
) -> VisionEncoder:
    """Train a tower; `on_step` gets the step, the loss and the share of digits told right."""
    torch.manual_seed(training.seed)
    encoder = VisionEncoder(TOWER, antialias=False)
    nn.init.normal_(encoder.visual_projection.weight, std=TOWER.hidden_size**-0.5)
    head = nn.Linear(TOWER.hidden_size, NUM_DIGITS + 1)
    optimise(
        [*encoder.parameters(), *head.parameters()],
        _losses(encoder, head, training),
        num_steps=training.num_steps,
        learning_rate=training.learning_rate,
        on_step=on_step,
    )
    return encoder.eval().requires_grad_(False)


def _losses(
    encoder: VisionEncoder, head: nn.Module, training: VisionTraining
) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(training.num_steps):
        rng = np.random.default_rng([training.seed, step])
        worlds = [make_scene(rng, split="train") for _ in range(training.batch_size)]
        frames = torch.from_numpy(np.stack([render_second(world, 0) for world in worlds]))
        shown, places = (torch.from_numpy(one) for one in _targets(worlds))
        patches = np.stack([patch_classes(world, 0, side=TOWER.side) for world in worlds])
        with fast_precision():
            states = encoder.embed_pixels(encoder.pixel_values(frames))
            for layer in encoder.layers[:-1]:
                states = layer(states, None)
            told_patches = head(states[:, 1:]).float()  # (n, P, 11)
            states = encoder.layers[-1](states, None)
            vector = encoder.visual_projection(encoder.post_layernorm(states[:, 0])).float()
        logits, told = vector.split([NUM_DIGITS, 2 * NUM_DIGITS], dim=-1)
        present = shown > 0
        # Digits that are there weigh as much as the many that are not.
        wrong = F.binary_cross_entropy_with_logits(logits, shown, reduction="none")
        misplaced = (told.unflatten(1, (NUM_DIGITS, 2)) - _PLACE_SCALE * places).square().sum(-1)
        loss = wrong[present].mean() + wrong[~present].mean()
        loss = loss + _PLACE_WEIGHT * (misplaced[present].mean() + misplaced[~present].mean())
        loss = loss + _PATCH_WEIGHT * patch_loss(told_patches, torch.from_numpy(patches))
        yield loss, ((logits > 0) == present).all(dim=1).float().mean()


def _targets(worlds: Sequence[World]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (n, C), 1 where a digit is shown, and (n, C, 2), the middle of the one in front."""
    shown = np.zeros((len(worlds), NUM_DIGITS), np.float32)
    places = np.zeros((len(worlds), NUM_DIGITS, 2), np.float32)
    for place, world in enumerate(worlds):
        for event in world.events:  # later events are in front
            shown[place, event.digit] = 1
            edge = np.array(event.position(0))
            places[place, event.digit] = (edge + GLYPH_SIDE / 2) / SIDE * 2 - 1
    return shown, places


def write_tower(encoder: VisionEncoder, directory: Path) -> None:
    """Write a tower as a directory of transformers."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "clip_vision_model", "hidden_act": "quick_gelu", **asdict(TOWER)}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    tensors = {
        name if name.startswith("visual_projection") else f"vision_model.{name}": tensor
        for name, tensor in encoder.state_dict().items()
    }
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def read_tower(directory: Path) -> VisionEncoder:
    """Read what `write_tower` wrote, frozen."""
    encoder = VisionEncoder(TOWER, antialias=False)
    encoder.load_state_dict(ClipSource(directory).tensors())
    return encoder.eval().requires_grad_(False)

"""A CLIP tower for MovingDigits, trained from nothing.

At full size the tower is downloaded and stays frozen, so something must stand in for its
pretraining: a picture's vector learns to tell in its coordinates which digits are shown, and where.

Shape letters: n pictures, P patches, D width of a picture's vector, C ten digits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from groundserve.families.vtimellm.clip import ClipConfig, ClipSource
from groundserve.families.vtimellm.vision import VisionEncoder
from train.digits.answers.seeing import NUM_SAID, frame_loss, frame_vectors, patch_loss
from train.digits.answers.training import fast_precision, optimise
from train.digits.render import patch_classes, render_second
from train.digits.world import NUM_DIGITS, make_scene

TOWER = ClipConfig(
    hidden_size=96,
    intermediate_size=288,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=72,
    patch_size=12,
    projection_dim=NUM_SAID,
)
"""Its vector has for each digit whether it is shown, as a logit, and where its middle lies."""

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
        wanted = torch.cat([frame_vectors(world, [0]) for world in worlds])
        patches = np.stack([patch_classes(world, 0, side=TOWER.side) for world in worlds])
        with fast_precision():
            states = encoder.embed_pixels(encoder.pixel_values(frames))
            for layer in encoder.layers[:-1]:
                states = layer(states, None)
            told_patches = head(states[:, 1:]).float()  # (n, P, 11)
            states = encoder.layers[-1](states, None)
            vector = encoder.visual_projection(encoder.post_layernorm(states[:, 0])).float()
        loss = frame_loss(vector, wanted) + _PATCH_WEIGHT * patch_loss(
            told_patches, torch.from_numpy(patches)
        )
        right = (vector[:, :NUM_DIGITS] > 0) == (wanted[:, :NUM_DIGITS] > 0)
        yield loss, right.all(dim=1).float().mean()


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

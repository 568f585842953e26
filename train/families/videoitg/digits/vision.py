"""A SigLIP tower for MovingDigits, trained from nothing.

At full size the tower is downloaded and stays frozen in all four stages, so something must stand
in for its pretraining: every patch learns to tell which digit covers it, if any, and where that
digit's centre lies, from itself and in the picture. It tells them in the first coordinates of its
features, without a head that could read them off something small: a projector learns from what
varies much.

Shape letters: n images, S image side, P patches, D_v vision width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from groundserve.families.videoitg.config import VisionConfig
from groundserve.families.videoitg.vision import VisionEncoder
from train.digits.render import NO_DIGIT, NUM_PLACES, draw_scenes, patch_classes, patch_places
from train.digits.world import NUM_DIGITS, make_scene

_NUM_CLASSES = NUM_DIGITS + 1
_PLACE_SCALE = 4.0
"""How much larger it tells them, to be as large as the logits of the classes."""
_PLACE_WEIGHT = 0.125
"""Weight of a squared error of what it tells, next to the classes' cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class VisionTraining:
    """How the tower is trained."""

    seed: int
    num_steps: int = 3000
    batch_size: int = 32
    """Pictures a step, never the same one twice."""
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02


def train_vision(
    config: VisionConfig,
    training: VisionTraining,
    *,
    select_layer: int = -2,
    on_step: Callable[[int, float, float], None] | None = None,
) -> SiglipVisionModel:
    """Train a tower; the layers behind the selected one keep their first values.

    `on_step` is called with the step, the loss, and the share of patches told right.
    """
    torch.manual_seed(training.seed)
    tower = SiglipVisionModel(SiglipVisionConfig(**asdict(config), vision_use_head=True))
    encoder = VisionEncoder(config, select_layer=select_layer)
    trained = encoder.state_dict()
    # The encoder is trained and the tower is written: both begin with the same weights.
    encoder.load_state_dict({name: tower.state_dict()[name] for name in trained})
    optimizer = torch.optim.AdamW(
        encoder.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=training.learning_rate,
        total_steps=training.num_steps,
        pct_start=0.1,
    )
    everywhere = torch.eye(config.side)  # no pooling
    for step, (pixels, classes, places) in enumerate(_batches(config, training)):
        pool = everywhere.expand(len(pixels), -1, -1)
        features = encoder(pixels, pool)
        # (n, P, 11) and (n, P, 4)
        logits, told = features[..., : _NUM_CLASSES + NUM_PLACES].split(
            [_NUM_CLASSES, NUM_PLACES], dim=-1
        )
        loss = _loss(logits, told, classes, places)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if on_step is not None:
            shows = classes != NO_DIGIT
            right = logits.argmax(-1)[shows] == classes[shows]
            on_step(step, loss.item(), right.float().mean().item())
    # strict=False: the encoder lacks the layers behind the selected one.
    tower.load_state_dict(encoder.state_dict(), strict=False)
    return tower.eval()


def _loss(logits: Tensor, told: Tensor, classes: Tensor, places: Tensor) -> Tensor:
    """Patches with and without a digit weigh the same: (n, P, 11), (n, P, 4), (n, P), (n, P, 4)."""
    shows = classes != NO_DIGIT
    wrong = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none")
    misplaced = (told - _PLACE_SCALE * places).square().sum(-1)
    loss = wrong.reshape(classes.shape) + _PLACE_WEIGHT * misplaced
    return loss[shows].mean() + loss[~shows].mean()


def _batches(
    config: VisionConfig, training: VisionTraining
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Draw all batches, each while the one before it is trained on."""

    def draw(step: int) -> tuple[Tensor, Tensor, Tensor]:
        # By step, so that drawing ahead in a thread changes nothing.
        rng = np.random.default_rng([training.seed, step])
        worlds = [make_scene(rng, split="train") for _ in range(training.batch_size)]
        classes = [patch_classes(world, 0, side=config.side) for world in worlds]
        places = [patch_places(world, 0, side=config.side) for world in worlds]
        return (
            torch.from_numpy(draw_scenes(worlds, image_size=config.image_size)),
            torch.from_numpy(np.stack(classes)).flatten(1),
            torch.from_numpy(np.stack(places)).flatten(1, 2),
        )

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(draw, 0)
        for step in range(training.num_steps):
            batch = following.result()
            if step + 1 < training.num_steps:
                following = pool.submit(draw, step + 1)
            yield batch

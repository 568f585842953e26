"""How well a model under training ranks frames: what is watched, and what ablations compare.

It takes both variants; published figures come from `groundserve eval`, which takes what is served.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from train.config import StageConfig, ValidationConfig
from train.families.base import Initial, TrainedModel
from train.measurements import Validate
from train.parallel import Processes
from train.stop import StopRequest
from train.validation import FIGURE, FrameAp


def frame_ap(config: StageConfig) -> Validate:
    """Return what gives the mean frame AP of a model by type of question, and over all.

    A run with `validation` measures the same; it also measures its start, and keeps its best.

    Args:
        config: Of stage 4, with the records of a MovingDigits grounding set.
    """
    data = config.data
    validation = ValidationConfig(records=data.records, media_root=data.media_root, every_steps=1)
    config = replace(config, validation=validation)

    def validate(model: TrainedModel, initial: Initial) -> dict[str, float]:
        measure = FrameAp(config, initial=initial, processes=_alone())
        with torch.no_grad():
            figures = measure(model, StopRequest())
        assert figures is not None  # nobody asks it to stop
        return {name: value for name, value in figures.items() if name.startswith(FIGURE)}

    return validate


def _alone() -> Processes:
    device = torch.device("cpu")
    return Processes(rank=0, world_size=1, local_world_size=1, device=device, grouped=False)

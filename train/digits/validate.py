"""How well a model under training ranks frames: what is watched, and what ablations compare.

It takes both variants; published figures come from `groundserve eval`, which takes what is served.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch

from groundserve.evaluation.frames import average_precision
from groundserve.families.videoitg.vision import VisionEncoder
from train.config import StageConfig
from train.data import TrainingData, Unreadable
from train.families.videoitg.layout import open_initial
from train.families.videoitg.models import Trunk, encode_frames

Validate = Callable[[Trunk, VisionEncoder], dict[str, float]]


def frame_ap(config: StageConfig) -> Validate:
    """Return what gives the mean frame AP of a model by type of question, and over all.

    Args:
        config: Of stage 4, with the records of a MovingDigits grounding set.

    Raises:
        ValueError: From what is returned, where a record cannot be read.
    """
    types = [record["type"] for record in json.loads(config.data.records.read_text("utf-8"))]
    # For its tokenizer alone, hence without an auxiliary layer.
    initial = open_initial(replace(config, auxiliary_weight=0.0), num_auxiliary=0)

    def validate(model: Trunk, vision: VisionEncoder) -> dict[str, float]:
        precisions: dict[str, list[float]] = {}
        kinds = iter(types)  # every record is readable, and read in order
        with (
            TrainingData(
                config.data,
                stage=config.stage,
                tokenizer=initial.tokenizer,
                pad_token_id=initial.pad_token_id,
                image_size=vision.image_size,
                side=vision.side,
                seed=config.seed,
            ) as data,
            closing(data.examples()) as examples,
            torch.no_grad(),
        ):
            for example in examples:
                if isinstance(example, Unreadable):
                    raise ValueError(f"{example.source}: {example.reason}")  # we wrote it
                # Without labels the model only scores, whatever else it was trained to tell.
                asked = replace(
                    example, texts=tuple(replace(text, labels=None) for text in example.texts)
                )
                losses = model([asked], encode_frames(vision, [asked]))
                # The labels of `example`, not of `asked`, which has none.
                for text, logits in zip(example.texts, losses.frame_logits, strict=True):
                    kind = next(kinds)
                    assert text.labels is not None
                    # Nothing to rank where nothing answers.
                    if text.labels.any():
                        found = average_precision(logits.numpy(), text.labels > 0)
                        precisions.setdefault(kind, []).append(found)
        means = {f"frame_ap/{kind}": float(np.mean(found)) for kind, found in precisions.items()}
        everything = [value for found in precisions.values() for value in found]
        return {"frame_ap": float(np.mean(everything)), **means}

    return validate

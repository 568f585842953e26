"""A family of its own rules, to train by the shared loop: nothing here is VideoITG's."""

import json
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from train.config import DataConfig, OptimizerConfig, StageConfig
from train.examples import Example, Text
from train.families.base import Losses, SampleCost, SampleFlops, TrainedModel

IMAGE_SIZE = 8
STRIDE = 5
"""Source frames between two that are sampled, whatever rate is asked for."""
DRAWN = (2, 3)
"""Tokens a frame in training."""
FLOPS = SampleFlops(tower=1e12, decoder=3e12)


class Samples:
    image_size = IMAGE_SIZE
    rule = "every fifth"

    def sample(self, index, *, sample_fps, max_frames):
        return np.arange(0, index.num_source_frames, STRIDE)[:max_frames]

    def tokens_per_frame(self, num_frames):
        return DRAWN[0]

    def drawn_tokens_per_frame(self, num_frames):
        return DRAWN

    def text(self, record, *, has_media):
        return Text(ids=np.array([-1, *map(len, record.messages[0].text.split())]))


class Source:
    def samples(self, config):
        return Samples()

    def sample_cost(self, config):
        return SampleCost(frame=1.0, token=1.0, pair=0.0)

    def sample_flops(self, config, **sizes):
        return FLOPS


class Vision(nn.Module):
    config = SimpleNamespace()


class Model(TrainedModel):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList([nn.Linear(3, 3)])
        self.auxiliary = None
        self.head = nn.Linear(3, 1)

    def forward(self, examples, features):
        logits, labels = [], []
        for example, feature in zip(examples, features, strict=True):
            assert feature.shape[:2] == (len(example.frames), example.tokens_per_frame)
            for text in example.texts:
                logits.append(self.head(self.decoder.layers[0](feature.mean(1))).squeeze(1))
                labels.append(text.labels)
        scores = [row.detach() for row in logits]
        if labels[0] is None:
            return Losses(loss=torch.zeros(()), frame_logits=scores)
        target = torch.from_numpy(np.concatenate(labels))
        loss = F.binary_cross_entropy_with_logits(torch.cat(logits), target)
        return Losses(loss=loss, parts={"toy": loss.detach()}, frame_logits=scores)

    def file_name(self, parameter):
        return f"toy.{parameter}"


@dataclass
class Initial(Source):
    model: Model
    vision: Vision

    def encode(self, examples):
        means = [torch.from_numpy(one.frames).float().mean((1, 2)) / 255 for one in examples]
        return [
            mean[:, None].expand(-1, one.tokens_per_frame, -1)
            for mean, one in zip(means, examples, strict=True)
        ]

    def blank_example(self, *, num_auxiliary=0):
        frames = np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        text = Text(ids=np.array([-1]), labels=np.zeros(1, np.float32))
        return Example(frames=frames, tokens_per_frame=1, texts=(text,))

    def write_files(self, directory, state_dict):
        (directory / "config.json").write_text(json.dumps({"model_type": "toy"}))
        tensors = {self.model.file_name(name): state_dict[name] for name in self.model.state_dict()}
        save_file(tensors, directory / "model.safetensors")


def grounding(*, init, records, media_root, out, vision_tower=None):
    return StageConfig(
        stage="grounding",
        init=init,
        out=out,
        data=DataConfig(
            records=records,
            media_root=media_root,
            template="plain",
            max_frames=64,
            vision_token_num=1000,
            vision_min_num=1,
            max_length=100,
        ),
        optimizer=OptimizerConfig(learning_rate=0.125, warmup_ratio=0.0),
        precision="fp32",
        gradient_checkpointing=False,
    )


class Toy:
    stages = MappingProxyType({"grounding": grounding})

    def recognises(self, raw_config):
        return raw_config.get("model_type") == "toy"

    def open_source(self, config):
        return Source()

    def open_initial(self, config, *, num_auxiliary):
        torch.manual_seed(config.seed)
        return Initial(model=Model(), vision=Vision())


FAMILY = Toy()

"""What a family that answers in text trains: a front, a causal decoder and adapters in it.

Shape letters: B sequences, S positions of the longest, N visual tokens of one, D decoder width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from train.config import AdapterConfig
from train.examples import Example
from train.families.base import Losses, TrainedModel
from train.families.language import next_token_loss, splice, spread_targets

ADAPTER = ".lora_"
"""In the name of each parameter of an adapter, and of no other."""


class AdaptedLinear(nn.Linear):
    """A linear layer with a LoRA adapter, under the names of PEFT 0.3."""

    def __init__(self, layer: nn.Linear, adapter: AdapterConfig) -> None:
        has_bias = layer.bias is not None
        super().__init__(layer.in_features, layer.out_features, bias=has_bias)
        self.lora_A = nn.Linear(layer.in_features, adapter.rank, bias=False)
        self.lora_B = nn.Linear(adapter.rank, layer.out_features, bias=False)
        self.dropout = nn.Dropout(adapter.dropout)
        self.scale = adapter.alpha / adapter.rank

    def forward(self, x: Tensor) -> Tensor:
        """Add the adapter's product to the layer's."""
        product: Tensor = self.lora_B(self.lora_A(self.dropout(x)))
        return super().forward(x) + product * self.scale


class TextModel(TrainedModel):
    """Front and decoder; `front` takes features (U, P, D_v) and gives (N, D)."""

    auxiliary = None

    def __init__(self, front: nn.Module, causal: PreTrainedModel) -> None:
        """Take the parts of a causal model of transformers."""
        super().__init__()
        self.front = front
        self.decoder = causal.model
        self.lm_head = causal.lm_head

    def forward(self, examples: Sequence[Example], features: Sequence[Tensor]) -> Losses:
        """Predict every token that has a target: the mean over the batch."""
        rows, targets = [], []
        for example, feature in zip(examples, features, strict=True):
            visual = self.visual(example, feature)
            for text in example.texts:
                rows.append(splice(self.decoder.embed_tokens, text, visual)[1])
                targets.append(spread_targets(text, num_visual=len(visual)))
        # Padded on the right: nothing real comes after it, so a causal model needs no mask.
        padded = pad_sequence(rows, batch_first=True)
        states = self.decoder(
            inputs_embeds=padded, use_cache=False, **self.positions(padded.shape[1])
        ).last_hidden_state
        loss = next_token_loss(self.lm_head, states, targets)
        return Losses(loss=loss, parts={"language": loss.detach()})

    def visual(self, example: Example, features: Tensor) -> Tensor:
        """Return the video's block (N, D)."""
        block: Tensor = self.front(features)
        return block

    def positions(self, num_positions: int) -> dict[str, Tensor]:
        """Return what the decoder is told of S positions; nothing where it counts them itself."""
        return {}


def peft_name(parameter: str) -> str:
    """Return the name of a parameter of the decoder in the state dict of a model of PEFT."""
    name = parameter.replace("decoder.", "model.", 1)
    return name.replace(f"{ADAPTER}A.", f"{ADAPTER}A.default.").replace(
        f"{ADAPTER}B.", f"{ADAPTER}B.default."
    )


def add_adapters(
    model: nn.Module, adapter: AdapterConfig, targets: Sequence[str] | None = None
) -> None:
    """Put an `AdaptedLinear` in the place of linear layers of a model on the meta device.

    Of all, or of those whose last names are among the targets.
    """
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and (targets is None or name in targets):
                with torch.device("meta"):
                    setattr(parent, name, AdaptedLinear(layer, adapter))


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let what is drawn inside follow from a seed alone, and what is drawn later from neither."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def new_adapters(names_and_shapes: Mapping[str, torch.Size], *, seed: int) -> dict[str, Tensor]:
    """Draw the adapters among a model's parameters: A as PEFT does, B zero.

    Source: huggingface/peft v0.4.0, `src/peft/tuners/lora.py`.
    """
    drawn: dict[str, Tensor] = {}
    with drawing_from(seed):
        for name in sorted(names_and_shapes):
            if ADAPTER in name:
                drawn[name] = torch.zeros(names_and_shapes[name])
                if f"{ADAPTER}A" in name:
                    nn.init.kaiming_uniform_(drawn[name], a=math.sqrt(5))
    return drawn


def train_only(model: nn.Module, parts: Iterable[str]) -> None:
    """Let the parameters be trained that have one of these in their names, and no others."""
    parts = tuple(parts)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))

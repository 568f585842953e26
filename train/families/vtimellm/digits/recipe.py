"""The small VTimeLLM that comes with groundserve, from nothing.

    python -m train.families.vtimellm.digits.recipe --out runs/vtimellm-digits --seed 1

A tower and a language model in place of downloads, then the reference's three stages at small size:
the projector on pictures with captions, an adapter on events and their times, and a second one upon
it on dialogues. The tower is frozen from then on, so videos are encoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from groundserve.families.vtimellm.prompt import BEFORE_VIDEO
from groundserve.families.vtimellm.vision import VisionEncoder
from groundserve.tokenizers.llama_tokenizer import LlamaTokenizer
from groundserve.weights.lora import Adapter, merge
from train.digits.answers.adapters import add_adapter, take_adapter, write_adapter
from train.digits.answers.decoder import write_decoder
from train.digits.answers.journal import Journal, run_command
from train.digits.answers.tokenizer import write_tokenizer, write_tokenizer_config
from train.digits.answers.training import (
    TAUGHT_LAYER,
    Decoder,
    FrameTeacher,
    Rows,
    Steps,
    Tokens,
    TurnTokenizer,
    Videos,
    optimise,
    train_on_videos,
    turn_loss,
)
from train.digits.answers.turns import Turn, draw_world
from train.digits.world import World
from train.families.vtimellm.digits.base import (
    WIDTH,
    base_losses,
    new_model,
    tokenizer_texts,
)
from train.families.vtimellm.digits.dialogues import (
    SECONDS,
    boundary_turns,
    dialogue_turns,
    instant,
    picture_turn,
)
from train.families.vtimellm.digits.features import encode_world
from train.families.vtimellm.digits.vision import (
    TOWER,
    VisionTraining,
    read_tower,
    train_vision,
    write_tower,
)

_VARIANT = "vtimellm-digits"
_PICTURES_PER_VIDEO = 8  # a step of the first stage


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much of everything."""

    seed: int
    pretrained_seed: int = 1
    """Of the tower, the language model and the videos, which runs may share."""
    num_videos: int = 2500
    batch_size: int = 4
    """Videos a step."""
    vision_steps: int = 3000
    base_steps: int = 4000
    projector_steps: int = 1000
    boundary_steps: int = 1500
    dialogue_steps: int = 2500
    base_learning_rate: float = 3e-3
    projector_learning_rate: float = 5e-3
    adapter_learning_rate: float = 3e-3


class Run:
    """One run of the recipe; a part that is done already is not done again."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.package = out / "checkpoint"
        self.package.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.package)
        self.base_dir = self.package / "base"
        self.stages = {n: self.package / f"{_VARIANT}-stage{n}" for n in (1, 2, 3)}

    def tower(self) -> VisionEncoder:
        """Train the tower, or read it."""
        directory = self.package / "clip-digits"
        if not (directory / "model.safetensors").is_file():
            with self.journal.timed("tower"):
                training = VisionTraining(
                    seed=self.recipe.pretrained_seed, num_steps=self.recipe.vision_steps
                )
                write_tower(train_vision(training, on_step=self.journal.report("tower")), directory)
        return read_tower(directory)

    def features(self, encoder: VisionEncoder) -> Tensor:
        """Draw the training videos and encode them, or read what was made of them."""
        path = self.out / "features.npy"
        if not path.is_file():
            with self.journal.timed("features"):
                found = [
                    encode_world(encoder, self._world(number))
                    for number in range(self.recipe.num_videos)
                ]
                np.save(path, torch.stack(found).numpy())
        return torch.from_numpy(np.load(path))

    def base(self) -> tuple[LlamaForCausalLM, LlamaTokenizer]:
        """Train the language model on texts alone, or read it."""
        self.base_dir.mkdir(exist_ok=True)
        if not (self.base_dir / "model.safetensors").is_file():
            torch.manual_seed(self.recipe.pretrained_seed)
            write_tokenizer(tokenizer_texts(), self.base_dir)
            model, tokenizer = new_model(self.base_dir)
            teacher = FrameTeacher(WIDTH, layer=TAUGHT_LAYER, motion_weight=0.0)
            recipe = self.recipe
            with self.journal.timed("base"):
                optimise(
                    [*model.parameters(), *teacher.parameters()],
                    base_losses(
                        model,
                        tokenizer,
                        teacher,
                        seed=recipe.pretrained_seed,
                        num_steps=recipe.base_steps,
                        batch_size=recipe.batch_size,
                    ),
                    num_steps=recipe.base_steps,
                    learning_rate=recipe.base_learning_rate,
                    on_step=self.journal.report("base"),
                )
            write_decoder(model, self.base_dir)
            write_tokenizer_config(self.base_dir)
        model, tokenizer = new_model(self.base_dir)
        tensors = load_file(self.base_dir / "model.safetensors")
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return model, tokenizer

    def projector(
        self, model: LlamaForCausalLM, tokenize: TurnTokenizer, features: Tensor
    ) -> nn.Linear:
        """Align the projector with the frozen language model, or read it."""
        path = self.stages[1] / "mm_projector.bin"
        torch.manual_seed(self.recipe.seed + 1)
        layer = nn.Linear(TOWER.projection_dim, WIDTH)
        if not path.is_file():
            model.requires_grad_(False)
            with self.journal.timed("stage 1"):
                optimise(
                    list(layer.parameters()),
                    self._picture_losses(model, tokenize, layer, features),
                    num_steps=self.recipe.projector_steps,
                    learning_rate=self.recipe.projector_learning_rate,
                    on_step=self.journal.report("stage 1"),
                )
            path.parent.mkdir(exist_ok=True)
            torch.save({f"model.mm_projector.{n}": t for n, t in layer.state_dict().items()}, path)
        saved = torch.load(path)
        layer.load_state_dict({n.rpartition(".")[2]: t for n, t in saved.items()})
        return layer.requires_grad_(False)

    def adapter(
        self,
        stage: int,
        model: LlamaForCausalLM,
        tokenize: TurnTokenizer,
        rows: Callable[[Sequence[int]], Rows],
        turns: Callable[[World, np.random.Generator], list[Turn]],
        num_steps: int,
    ) -> None:
        """Train an adapter of a stage upon what the model is, and merge it."""
        if (self.stages[stage] / "adapter_model.bin").is_file():
            done = [Adapter.open(self.stages[stage])]
            for key, weight in model.state_dict().items():
                weight.copy_(merge(key, weight, done, dtype=torch.float32))
            return
        torch.manual_seed(self.recipe.seed + stage)
        parameters = add_adapter(model)
        recipe = self.recipe
        train_on_videos(
            Decoder(model.model, model.lm_head),
            parameters,
            tokenize,
            rows,
            turns,
            seconds=SECONDS,
            videos=Videos(recipe.pretrained_seed, recipe.num_videos, recipe.batch_size),
            seed=[recipe.seed, stage],
            steps=Steps(num_steps, recipe.adapter_learning_rate),
            journal=self.journal,
            name=f"stage {stage}",
        )
        write_adapter(take_adapter(model), self.stages[stage], base="base")

    def _picture_losses(
        self, model: LlamaForCausalLM, tokenize: TurnTokenizer, layer: nn.Linear, features: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng([self.recipe.seed, 1])
        while True:
            pictures: list[Tensor] = []
            turns: list[Tokens] = []
            for number in rng.integers(len(features), size=self.recipe.batch_size):
                world = self._world(int(number))
                for frame in rng.integers(len(SECONDS), size=_PICTURES_PER_VIDEO):
                    turn = picture_turn(instant(world, SECONDS[frame]))
                    turns.append(tokenize(len(pictures), turn))
                    pictures.append(features[number, frame].float())
            rows = Rows.of_frames(layer(torch.stack(pictures))[:, None])
            loss, _, right = turn_loss(
                Decoder(model.model, model.lm_head), tokenize.begin, rows, turns
            )
            yield loss, right

    def _world(self, number: int) -> World:
        return draw_world("train", self.recipe.pretrained_seed, number)


def run_recipe(recipe: Recipe, out: Path) -> Path:
    """Train `<out>/checkpoint`, in the layout of the reference's folders."""
    run = Run(recipe, out)
    features = run.features(run.tower())
    model, tokenizer = run.base()
    tokenize = TurnTokenizer(tokenizer, BEFORE_VIDEO)
    projector = run.projector(model, tokenize, features)

    def rows(numbers: Sequence[int]) -> Rows:
        return Rows.of_frames(projector(features[torch.as_tensor(numbers)].float()))

    run.adapter(2, model, tokenize, rows, boundary_turns, recipe.boundary_steps)
    run.adapter(3, model, tokenize, rows, dialogue_turns, recipe.dialogue_steps)
    run.journal.close(recipe)
    return run.package


def main() -> None:
    """Train it with the settings that the docs give figures of."""
    run_command("Train the small VTimeLLM from nothing.", Recipe, run_recipe)


if __name__ == "__main__":
    main()

"""A small Grounded-VideoLLM, upon the shipped checkpoint that answers in text.

    python -m train.families.grounded_videollm.digits.recipe --out runs/digits-grounded --seed 1

InternVideo2 in place of a download, CLIP and the decoder of the shipped VTimeLLM; then the
reference's stages at small size. A video has 1,596 rows, 16 of each frame. The stage `grounded`
sees one of four frames, weighed as all four; the stage `sft`, all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundserve.families.grounded_videollm.prompt import read_tokenizer
from groundserve.families.grounded_videollm.times import NEW_TOKENS, TEMPLATES
from groundserve.families.grounded_videollm.vision import VisionEncoder
from train.config import AdapterConfig, StageConfig
from train.digits.answers.answerer import open_answerer
from train.digits.answers.journal import Journal, run_command
from train.digits.answers.training import (
    Decoder,
    Rows,
    Steps,
    Videos,
    train_on_videos,
)
from train.digits.answers.turns import draw_world
from train.digits.render import render_second
from train.digits.world import World
from train.families.grounded_videollm.digits.dialogues import TurnTokenizer, index_turns, turns_of
from train.families.grounded_videollm.digits.files import write_before
from train.families.grounded_videollm.digits.vision import (
    CONFIG,
    KEY,
    NUM_FRAMES,
    NUM_SEGMENTS,
    SECONDS,
    TEMPORAL_SIDE,
    new_vision,
    resized,
    train_vision,
)
from train.families.grounded_videollm.family import Initial, open_initial
from train.families.grounded_videollm.stages import grounded, sft

_TEMPORAL = CONFIG.num_spatial_tokens
"""Of a segment's rows the first one of its frames; behind those stands one that ends it."""
_ROWS = CONFIG.num_spatial_tokens + CONFIG.num_temporal_tokens + 1
_THINNED = 4
"""Frames of which the stage `grounded` sees one."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much of everything."""

    seed: int
    num_videos: int = 1200
    batch_size: int = 4
    """Videos a step."""
    vision_steps: int = 2000
    index_steps: int = 1500
    grounded_steps: int = 1000
    sft_steps: int = 150
    sft_batch_size: int = 2
    learning_rate: float = 2e-3
    sft_learning_rate: float = 5e-4


class Run:
    """One run of the recipe; what is seen in frames is not learnt twice."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.package = out / "checkpoint"
        self.package.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.package)
        self.answerer = open_answerer()

    def vision(self) -> VisionEncoder:
        """Train towers and projectors, or read them."""
        path = self.out / "vision.safetensors"
        if not path.is_file():
            with self.journal.timed("vision"):
                trained = train_vision(
                    self.answerer,
                    seed=self.recipe.seed,
                    num_steps=self.recipe.vision_steps,
                    on_step=self.journal.report("vision"),
                )
            save_file(trained.state_dict(), path)
        encoder = new_vision(self.answerer)
        encoder.load_state_dict(load_file(path))
        return encoder.eval().requires_grad_(False)

    def texts(self) -> list[str]:
        """Return what the tokenizer learns its words from; times are tokens of their own."""
        template, rng = TEMPLATES["llama3"], np.random.default_rng(self.recipe.seed)
        texts = [template.system] * 5 + [template.user, template.behind] * 5
        for number in range(300):
            turns = turns_of(draw_world("train", self.recipe.seed, number), rng)
            for one in (text for turn in turns for text in (turn.given, turn.said)):
                for token in NEW_TOKENS:
                    one = one.replace(token, "")
                texts.append(one)
        return texts

    def features(self, initial: Initial) -> Tensor:
        """Draw the training videos and encode them, float16 (n, U, 1, K), or read them."""
        path = self.out / "features.npy"
        if not path.is_file():
            with self.journal.timed("features"), torch.no_grad():
                found = [
                    self._encode(initial, draw_world("train", self.recipe.seed, number)).half()
                    for number in range(self.recipe.num_videos)
                ]
                np.save(path, torch.stack(found).numpy())
        return torch.from_numpy(np.load(path, mmap_mode="c"))

    def train(
        self,
        initial: Initial,
        features: Tensor,
        kept: Callable[[], dict[str, Tensor]],
        *,
        name: str,
        batch_size: int,
        steps: Steps,
    ) -> None:
        """Train what the stage of an initial trains, on the rows that are `kept` each step."""
        model, recipe = initial.model, self.recipe
        path = self.out / "tokenizer.json"
        read_tokenizer(initial.source.parts.tokenizer, "llama3")[0].save(str(path))

        def rows(numbers: Sequence[int]) -> Rows:
            found = torch.stack([model.front(features[number].float()) for number in numbers])
            chosen = kept()
            return Rows(found[:, chosen.pop("rows")], num_places=found.shape[1], **chosen)

        train_on_videos(
            Decoder(model.decoder, model.lm_head),
            [one for one in model.parameters() if one.requires_grad],
            TurnTokenizer(path, initial.source.spec),
            rows,
            index_turns if name == "index" else turns_of,
            seconds=SECONDS,
            videos=Videos(recipe.seed, recipe.num_videos, batch_size),
            seed=[recipe.seed, len(name)],
            steps=steps,
            journal=self.journal,
            name=name,
        )

    def _encode(self, initial: Initial, world: World) -> Tensor:
        frames = resized([render_second(world, second) for second in SECONDS])
        segments = torch.unflatten(frames, 0, (NUM_SEGMENTS, NUM_FRAMES))
        encoded: Tensor = initial.vision(segments, segments[:, KEY])
        return encoded


def all_rows() -> dict[str, Tensor]:
    """Return which rows there are, and which frame each is of; the key frame's count as none."""
    rows = torch.arange(NUM_SEGMENTS * _ROWS)
    of_segment = torch.full((_ROWS,), -1)
    of_segment[_TEMPORAL:-1] = torch.arange(NUM_FRAMES).repeat_interleave(TEMPORAL_SIDE**2)
    frames = torch.arange(NUM_SEGMENTS)[:, None] * NUM_FRAMES + of_segment
    return {"rows": rows, "frames": frames.where(of_segment >= 0, -1).flatten()}


def some_rows(rng: np.random.Generator) -> dict[str, Tensor]:
    """Return the rows of key frames and of one of four frames, which stands for them."""
    rows, frames = all_rows().values()
    drawn = rng.integers(_THINNED, size=NUM_SEGMENTS * NUM_FRAMES // _THINNED)
    drawn += np.arange(len(drawn)) * _THINNED
    kept = (frames < 0) | torch.isin(frames, torch.from_numpy(drawn))
    rows, frames = rows[kept], frames[kept]
    return {
        "rows": rows,
        "frames": frames,
        "places": rows,
        "copies": torch.where(frames < 0, 1.0, float(_THINNED)),
    }


def run_recipe(recipe: Recipe, out: Path) -> Path:
    """Train `<out>/checkpoint`, in the layout of the reference's folders."""
    run = Run(recipe, out)
    before, between = out / "before", out / "grounded"
    write_before(run.vision(), run.answerer, run.texts(), before)
    initial = _open(grounded, before, recipe.seed)
    features = run.features(initial)
    rng = np.random.default_rng([recipe.seed, 1])
    for name, num_steps in (("index", recipe.index_steps), ("grounded", recipe.grounded_steps)):
        run.train(
            initial,
            features,
            lambda: some_rows(rng),
            name=name,
            batch_size=recipe.batch_size,
            steps=Steps(num_steps, recipe.learning_rate),
        )
    between.mkdir(exist_ok=True)
    initial.write_files(between, initial.model.state_dict())
    initial = _open(sft, between, recipe.seed)
    run.train(
        initial,
        features,
        all_rows,
        name="sft",
        batch_size=recipe.sft_batch_size,
        steps=Steps(recipe.sft_steps, recipe.sft_learning_rate),
    )
    initial.write_files(run.package, initial.model.state_dict())
    run.journal.close(recipe)
    return run.package


def _open(stage: Callable[..., StageConfig], init: Path, seed: int) -> Initial:
    config = stage(init=init, records=init, media_root=init, out=init)
    adapter = AdapterConfig(rank=128, alpha=256, dropout=0.0)
    return open_initial(replace(config, seed=seed, adapter=adapter), num_auxiliary=0)


def main() -> None:
    """Train it with the settings that the docs give figures of."""
    run_command("Train a small Grounded-VideoLLM.", Recipe, run_recipe)


if __name__ == "__main__":
    main()

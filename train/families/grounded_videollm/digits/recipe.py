"""A small Grounded-VideoLLM, upon the shipped checkpoint that answers in text.

    python -m train.families.grounded_videollm.digits.recipe --out runs/digits-grounded --seed 1

InternVideo2 in place of a download, CLIP and the decoder of the shipped VTimeLLM; then the
reference's stages at small size. A video has 1,596 rows, 32 of each second, nearly alike. The stage
`grounded` sees one of those, with the weight of all, at first not as the tower tells it but as it
is true; the stage `sft` sees them all.

Shape letters: B videos, N rows of one, U segments, P rows of a segment, H width of the decoder, K
values that the towers give of a segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from groundserve.families.grounded_videollm.prompt import read_tokenizer
from groundserve.families.grounded_videollm.times import NEW_TOKENS, TEMPLATES
from groundserve.families.grounded_videollm.vision import VisionEncoder
from train.config import AdapterConfig, StageConfig
from train.digits.answers.answerer import open_answerer
from train.digits.answers.journal import Journal, run_command, take_new
from train.digits.answers.seeing import frame_vectors
from train.digits.answers.training import (
    Decoder,
    Rows,
    Steps,
    Videos,
    train_on_videos,
)
from train.digits.answers.turns import NUM_SECONDS, draw_world
from train.digits.render import render_second
from train.digits.world import World
from train.families.grounded_videollm.digits.dialogues import TurnTokenizer, index_turns, turns_of
from train.families.grounded_videollm.digits.files import write_before
from train.families.grounded_videollm.digits.vision import (
    CONFIG,
    KEY,
    NUM_FRAMES,
    NUM_SEGMENTS,
    NUM_TOKENS,
    SECONDS,
    resized,
    second_codes,
    train_vision,
)
from train.families.grounded_videollm.family import Initial, open_initial
from train.families.grounded_videollm.stages import grounded, sft

_ROWS = CONFIG.num_spatial_tokens + NUM_FRAMES * NUM_TOKENS + 1
"""Of a segment: CLIP's of its key frame, all frames', and one that ends it."""
NUM_PLACES, _FRAMES_PER_SECOND = NUM_SEGMENTS * _ROWS, 2
_TRUE_SEED, _NUM_TRUE = 101, 100_000
"""Of the worlds, never drawn as frames, on which the decoder is trained first."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much of everything."""

    seed: int
    num_videos: int = 800
    batch_size: int = 4
    """Videos a step."""
    patches_steps: int = 1500
    frames_steps: int = 2700
    index_steps: int = 1500
    grounded_steps: int = 3000
    sft_steps: int = 30
    sft_batch_size: int = 2
    learning_rate: float = 2e-3
    sft_learning_rate: float = 2e-4


class Run:
    """One run of the recipe."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, take_new(out)
        self.package = out / "checkpoint"
        self.package.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.package)
        self.answerer = open_answerer()

    def vision(self) -> VisionEncoder:
        """Train towers and projectors."""
        recipe = self.recipe
        with self.journal.timed("vision"):
            return train_vision(
                self.answerer,
                seed=recipe.seed,
                num_steps={"patches": recipe.patches_steps, "frames": recipe.frames_steps},
                report=self.journal.report,
            )

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
        """Draw the training videos and encode them, float16 (n, U, 1, K)."""
        worlds = (
            draw_world("train", self.recipe.seed, number)
            for number in range(self.recipe.num_videos)
        )
        with self.journal.timed("features"), torch.no_grad():
            return torch.stack([self._encode(initial, world).half() for world in worlds])

    def true_rows(self, numbers: Sequence[int], places: Tensor) -> Tensor:
        """Return (B, N, H): rows at some places, of worlds in which nothing is overlooked."""
        weight, bias = self.answerer.projection()
        segments, in_segment = places // _ROWS, places % _ROWS
        ends = in_segment == _ROWS - 1
        frames = segments * NUM_FRAMES + frames_of_rows()[in_segment]
        seconds = [SECONDS[frame] for frame in frames.tolist()]
        worlds = [draw_world("train", _TRUE_SEED + self.recipe.seed, number) for number in numbers]
        vectors = torch.stack([frame_vectors(world, seconds) for world in worlds])
        rows = vectors @ weight.T + bias + F.pad(second_codes(), (0, 0, 0, 1))[in_segment]
        return rows.masked_fill(ends[:, None], 0.0)

    def train(
        self,
        initial: Initial,
        rows: Callable[[Sequence[int], Tensor], Tensor],
        *,
        name: str,
        videos: Videos,
        steps: Steps,
    ) -> None:
        """Train what the stage of an initial trains; `rows` are those at some places of videos."""
        model = initial.model
        path = self.out / "tokenizer.json"
        read_tokenizer(initial.source.parts.tokenizer, "llama3")[0].save(str(path))
        rng = np.random.default_rng([self.recipe.seed, len(name), 1])

        def placed(numbers: Sequence[int]) -> Rows:
            if name == "sft":
                places = torch.arange(NUM_PLACES)
                return Rows(rows(numbers, places), seconds_of(places))
            places, copies = some_places(rng)
            told, seconds = rows(numbers, places), seconds_of(places)
            return Rows(told, seconds, places=places, copies=copies, num_places=NUM_PLACES)

        train_on_videos(
            Decoder(model.decoder, model.lm_head),
            [one for one in model.parameters() if one.requires_grad],
            TurnTokenizer(path, initial.source.spec),
            placed,
            index_turns if name == "index" else turns_of,
            seconds=range(NUM_SECONDS),
            videos=videos,
            seed=[self.recipe.seed, len(name)],
            steps=steps,
            journal=self.journal,
            name=name,
        )

    def _encode(self, initial: Initial, world: World) -> Tensor:
        frames = resized([render_second(world, second) for second in SECONDS])
        segments = torch.unflatten(frames, 0, (NUM_SEGMENTS, NUM_FRAMES))
        encoded: Tensor = initial.vision(segments, segments[:, KEY])
        return encoded


def frames_of_rows() -> Tensor:
    """Return int64 (P,), the frame that each row of a segment is of; the end, of the key's."""
    shown = torch.arange(NUM_FRAMES).repeat_interleave(NUM_TOKENS)
    return F.pad(shown, (CONFIG.num_spatial_tokens, 1), value=KEY)


def seconds_of(places: Tensor) -> Tensor:
    """Return int64 (N,), the second that the row at each place tells; of CLIP's and ends, -1."""
    in_segment = places % _ROWS
    frames = places // _ROWS * NUM_FRAMES + (in_segment - CONFIG.num_spatial_tokens) // NUM_TOKENS
    tells = (in_segment >= CONFIG.num_spatial_tokens) & (in_segment < _ROWS - 1)
    return (frames // _FRAMES_PER_SECOND).where(tells, -1)


def some_places(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return places of one row of each second, of CLIP's of each segment, and of its end.

    Int64 (N,), and how many rows each stands for, float32 (N,).
    """
    segments = np.arange(NUM_SEGMENTS)[:, None] * _ROWS
    num_clip, of_second = CONFIG.num_spatial_tokens, NUM_TOKENS * _FRAMES_PER_SECOND
    clip = rng.integers(num_clip, size=(NUM_SEGMENTS, 1))
    firsts = num_clip + np.arange(0, NUM_TOKENS * NUM_FRAMES, of_second)
    told = firsts + rng.integers(of_second, size=(NUM_SEGMENTS, len(firsts)))
    ends = np.full((NUM_SEGMENTS, 1), _ROWS - 1)
    places = segments + np.concatenate([clip, told, ends], axis=1)
    copies = torch.tensor([float(num_clip), *[float(of_second)] * len(firsts), 1.0])
    return torch.from_numpy(places.flatten()), copies.repeat(NUM_SEGMENTS)


def run_recipe(recipe: Recipe, out: Path) -> Path:
    """Train `<out>/checkpoint`, in the layout of the reference's folders."""
    run = Run(recipe, out)
    before, between = out / "before", out / "grounded"
    write_before(run.vision(), run.answerer, run.texts(), before)
    initial = _open(grounded, before, recipe.seed)
    features = run.features(initial)

    def seen_rows(numbers: Sequence[int], places: Tensor) -> Tensor:
        front = initial.model.front
        return torch.stack([front(features[number].float())[places] for number in numbers])

    true = Videos(_TRUE_SEED + recipe.seed, _NUM_TRUE, recipe.batch_size)
    seen = Videos(recipe.seed, recipe.num_videos, recipe.batch_size)
    for name, rows, videos, num_steps in (
        ("index", run.true_rows, true, recipe.index_steps),
        ("grounded", seen_rows, seen, recipe.grounded_steps),
    ):
        steps = Steps(num_steps, recipe.learning_rate)
        run.train(initial, rows, name=name, videos=videos, steps=steps)
    between.mkdir(exist_ok=True)
    initial.write_files(between, initial.model.state_dict())
    initial = _open(sft, between, recipe.seed)
    run.train(
        initial,
        seen_rows,
        name="sft",
        videos=seen._replace(batch_size=recipe.sft_batch_size),
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

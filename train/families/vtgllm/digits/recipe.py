"""A small VTG-LLM, upon the shipped checkpoint that answers in text.

    python -m train.families.vtgllm.digits.recipe --out runs/digits-vtgllm --seed 1

EVA and a Q-Former in place of downloads, the decoder of the shipped VTimeLLM in place of
Video-LLaMA's; then the reference's instruction tuning at small size, but for the Q-Former, which
stays frozen, so that videos are encoded once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from groundserve.families.parts import write_choices
from groundserve.families.vtgllm.layout import BERT_PLACE, TRAIN_CONFIGS_NAME
from groundserve.families.vtgllm.prompt import BEFORE_VIDEO, VIDEO_PLACEHOLDER
from groundserve.families.vtgllm.times import TIME_TOKENS
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from train.config import AdapterConfig
from train.digits.answers.answerer import Answerer, open_answerer
from train.digits.answers.decoder import respell, write_decoder
from train.digits.answers.journal import Journal, run_command, take_new
from train.digits.answers.seeing import frame_vectors
from train.digits.answers.tokenizer import write_tokenizer, write_tokenizer_config
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
from train.families.vtgllm.digits.dialogues import (
    SECONDS,
    IndexTokenizer,
    TurnTokenizer,
    index_turns,
    instruct_turns,
)
from train.families.vtgllm.digits.vision import (
    EVA,
    NUM_QUERIES,
    Seeing,
    bert_config,
    eva_file,
    q_former_file,
    resized,
    train_seeing,
)
from train.families.vtgllm.family import Initial, open_initial
from train.families.vtgllm.model import VideoFront
from train.families.vtgllm.stages import instruct

_WIDTH = 128
_SEED, _NUM_WORLDS = 101, 100_000
"""Of the worlds, never drawn as frames, on which the decoder is trained first."""
_PLACE, _SLOT, _TIME, _CODE = 16.0, 2.0, 64.0, 0.7
"""How much a frame's place adds to its vector, how sharply the slots tell frames apart, how much
its second adds to its vector, and to its row."""
_NUM_TIME_ROWS, _NUM_TENS = 1024, -(-NUM_SECONDS // 10)
_CONFIG = f"""\
model:
  arch: vtgllm
  image_size: {EVA.image_size}
  num_query_token: {NUM_QUERIES}
  vit_model: model/eva_vit_g.pth
  q_former_model: model/instruct_blip.pth
  llama_model: model/llama
  ckpt: video_llama.pth
  use_video_qformer: False
  sampler_type: slot
  sample_num: {NUM_SECONDS}
  max_frame_pos: {NUM_SECONDS}
  max_time_pos: {_NUM_TIME_ROWS}
  lora: True
  real_time_stamp: True
  special_time_token: True
"""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much of everything."""

    seed: int
    num_videos: int = 1000
    batch_size: int = 4
    """Videos a step."""
    vision_steps: int = 1500
    index_steps: int = 1600
    decoder_steps: int = 1200
    instruct_steps: int = 700
    decoder_learning_rate: float = 1e-3
    learning_rate: float = 2e-3


class Run:
    """One run of the recipe."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, take_new(out)
        self.package, self.before = out / "checkpoint", out / "before"
        self.package.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.package)
        self.answerer = open_answerer()

    def seeing(self) -> Seeing:
        """Train tower and Q-Former."""
        with self.journal.timed("vision"):
            return train_seeing(
                self.answerer,
                seed=self.recipe.seed,
                num_steps=self.recipe.vision_steps,
                on_step=self.journal.report("vision"),
            )

    def features(self, seeing: Seeing) -> Tensor:
        """Draw the training videos and encode them, float16 (n, T, P, D)."""
        worlds = (draw_world("train", self.recipe.seed, n) for n in range(self.recipe.num_videos))
        with self.journal.timed("features"), torch.no_grad():
            found = [
                seeing.encoder(resized([render_second(world, second) for second in SECONDS]))
                for world in worlds
            ]
        return torch.stack(found).half()

    def write_before(self, seeing: Seeing) -> None:
        """Write what the reference's training begins with, in its layout."""
        llama, bert = self.before / "model/llama", self.before / BERT_PLACE
        for directory in (llama, bert, self.before / TRAIN_CONFIGS_NAME):
            directory.mkdir(parents=True, exist_ok=True)
        tensors = seeing.encoder.state_dict()
        torch.save(eva_file(tensors), self.before / "model/eva_vit_g.pth")
        torch.save({"model": q_former_file(tensors)}, self.before / "model/instruct_blip.pth")
        torch.save({"model": first_front(seeing, self.answerer)}, self.before / "video_llama.pth")
        (bert / "config.json").write_text(json.dumps(bert_config()) + "\n", "utf-8")
        (self.before / TRAIN_CONFIGS_NAME / "digits.yaml").write_text(_CONFIG, "utf-8")
        write_choices(self.before, {"eva_heads": str(EVA.num_attention_heads)})
        write_tokenizer(self._texts(), llama)
        write_tokenizer_config(llama)
        write_decoder(self._decoder(llama), llama)

    def _decoder(self, llama: Path) -> LlamaForCausalLM:
        """Accustom the shipped decoder to seconds and to this family's prompts, on true vectors."""
        pieces, recipe = read_llama_tokenizer(llama), self.recipe
        names = [str(pieces.id_to_token(row)) for row in range(pieces.get_vocab_size())]
        decoder = respell(self.answerer.decoder, self.answerer.tokenizer, names)

        def rows(numbers: Sequence[int]) -> Rows:
            worlds = [draw_world("train", _SEED + recipe.seed, number) for number in numbers]
            return Rows.of_frames(true_rows(worlds, self.answerer))

        for name, num_steps in (("index", recipe.index_steps), ("decoder", recipe.decoder_steps)):
            self._train(
                Decoder(decoder.model, decoder.lm_head),
                list(decoder.parameters()),
                rows,
                name=name,
                videos=Videos(_SEED + recipe.seed, _NUM_WORLDS, recipe.batch_size),
                steps=Steps(num_steps, recipe.decoder_learning_rate),
            )
        return decoder

    def instruct(self, initial: Initial, features: Tensor) -> None:
        """Train what the reference trains, but for the Q-Former."""
        model, recipe = initial.model, self.recipe
        front = cast(VideoFront, model.front)
        front.q_former.requires_grad_(False)
        front.query_tokens.requires_grad_(False)
        seconds = torch.tensor(SECONDS)

        def rows(numbers: Sequence[int]) -> Rows:
            seen = features[torch.as_tensor(numbers)].float()
            return Rows.of_frames(torch.stack([front.pool(one, seconds) for one in seen]))

        self._train(
            Decoder(model.decoder, model.lm_head),
            [one for one in model.parameters() if one.requires_grad],
            rows,
            name="instruct",
            videos=Videos(recipe.seed, recipe.num_videos, recipe.batch_size),
            steps=Steps(recipe.instruct_steps, recipe.learning_rate),
        )

    def _train(
        self,
        decoder: Decoder,
        trained: list[nn.Parameter],
        rows: Callable[[Sequence[int]], Rows],
        *,
        name: str,
        videos: Videos,
        steps: Steps,
    ) -> None:
        path = self.out / "tokenizer.json"
        read_llama_tokenizer(
            self.before / "model/llama", special=(VIDEO_PLACEHOLDER,), added=TIME_TOKENS
        ).save(str(path))
        tokenize = (
            IndexTokenizer(path, num_visual_tokens=NUM_SECONDS)
            if name == "index"
            else TurnTokenizer(path, num_visual_tokens=NUM_SECONDS, in_pieces=name == "decoder")
        )
        train_on_videos(
            decoder,
            trained,
            tokenize,
            rows,
            index_turns if name == "index" else instruct_turns,
            seconds=SECONDS,
            videos=videos,
            seed=[self.recipe.seed, len(name)],
            steps=steps,
            journal=self.journal,
            name=name,
        )

    def _texts(self) -> list[str]:
        """Return what the tokenizer learns its words from."""
        texts = [BEFORE_VIDEO] * 5
        rng = np.random.default_rng(self.recipe.seed)
        for number in range(300):
            world = draw_world("train", self.recipe.seed, number)
            texts += [f"{turn.given} [/INST] {turn.said}" for turn in instruct_turns(world, rng)]
        return texts


def first_front(seeing: Seeing, answerer: Answerer) -> dict[str, Tensor]:
    """Return a front whose slots are the frames, each the row that `true_rows` has of it.

    What a frame's place and second add lies where nothing that is said of a frame reads: there
    slots find the frame, and the decoder its time.
    """
    said, codes = seeing.said, time_codes()
    weight, bias = answerer.projection()
    _, _, directions = torch.linalg.svd(said.weight)  # all (D, D), those that are not read last
    places, times = directions[-NUM_SECONDS:], directions[-NUM_SECONDS - len(codes) : -NUM_SECONDS]
    seconds = torch.zeros(_NUM_TIME_ROWS, said.in_features)
    seconds[:NUM_SECONDS] = _TIME * spell(torch.arange(NUM_SECONDS), times)
    return {
        "video_frame_position_embedding.weight": _PLACE * places,
        "video_time_position_embedding": seconds,
        "sampler.slots": _SLOT * places.T.contiguous(),
        "llama_proj.weight": weight @ said.weight + codes.T @ times / _TIME,
        "llama_proj.bias": weight @ said.bias + bias,
    }


def true_rows(worlds: Sequence[World], answerer: Answerer) -> Tensor:
    """Return (B, T, H): the shipped decoder's rows of frames in which nothing is overlooked.

    Each has its second added, in two digits.
    """
    weight, bias = answerer.projection()
    vectors = torch.stack([frame_vectors(world, SECONDS) for world in worlds])
    return vectors @ weight.T + bias + spell(torch.arange(NUM_SECONDS), time_codes())


def time_codes() -> Tensor:
    """Return (15, H), what stands for the tens of a second, 0 to 4, and for the ones."""
    generator = torch.Generator().manual_seed(_SEED)
    return _CODE * torch.randn(_NUM_TENS + 10, _WIDTH, generator=generator)


def spell(seconds: Tensor, codes: Tensor) -> Tensor:
    """Return the sum of the two codes of each second: (n,) and (15, X) -> (n, X)."""
    return codes[seconds // 10] + codes[_NUM_TENS + seconds % 10]


def run_recipe(recipe: Recipe, out: Path) -> Path:
    """Train `<out>/checkpoint`, in the layout of the reference's folders."""
    run = Run(recipe, out)
    seeing = run.seeing()
    features = run.features(seeing)
    run.write_before(seeing)
    config = instruct(init=run.before, records=out, media_root=out, out=out)
    initial = open_initial(
        replace(
            config,
            seed=recipe.seed,
            data=replace(config.data, max_frames=NUM_SECONDS),
            adapter=AdapterConfig(rank=32, alpha=32, dropout=0.0),
        ),
        num_auxiliary=0,
    )
    run.instruct(initial, features)
    initial.write_files(run.package, initial.model.state_dict())
    run.journal.close(recipe)
    return run.package


def main() -> None:
    """Train it with the settings that the docs give figures of."""
    run_command("Train a small VTG-LLM.", Recipe, run_recipe)


if __name__ == "__main__":
    main()

"""The language model that stands in for Vicuna: made from nothing, and taught by words alone.

Diaries of videos stand where the video will, so that it knows how to tell when before it sees any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from groundserve.families.vtimellm.prompt import BEFORE_VIDEO
from groundserve.tokenizers.llama_tokenizer import LlamaTokenizer
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from train.digits.answers.training import Decoder, FrameTeacher, Rows, TurnTokenizer, turn_loss
from train.digits.answers.turns import Turn, draw_world, facts_of
from train.digits.world import World, make_scene
from train.families.vtimellm.digits.dialogues import (
    SECONDS,
    boundary_turns,
    dialogue_turns,
    diary,
    index_turns,
    picture_turn,
    scene_words,
)

WIDTH = 128
_LAYERS, _HEADS, _INTERMEDIATE = 5, 4, 384
_ALIKE = 1.3
_INDEX_ALONE = 0.35  # of the steps
_SCENES_EVERY_STEPS, _NUM_SCENES = 4, 8
_SEED = 101  # of the texts, whose worlds are others than those of the videos


def new_model(directory: Path) -> tuple[LlamaForCausalLM, LlamaTokenizer]:
    """Return a model with first values for the tokenizer in a directory, and that tokenizer."""
    tokenizer = read_llama_tokenizer(directory)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=WIDTH,
        intermediate_size=_INTERMEDIATE,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        rope_theta=1e4,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
        # 0.02 is right for a width of 4096; at 128 it leaves the layers silent for long.
        initializer_range=0.05,
        attn_implementation="eager",  # the fastest on a CPU for rows as short as these
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        # What is alike attends to what is alike from the first step on, which a model as small as
        # this one takes long to find.
        attention = layer.self_attn
        attention.k_proj.weight.data *= _ALIKE
        attention.q_proj.weight.data.copy_(attention.k_proj.weight.data)
    return model, LlamaTokenizer(tokenizer)


def tokenizer_texts() -> list[str]:
    """Return what the tokenizer learns its words from."""
    texts = [BEFORE_VIDEO] * 5
    rng = np.random.default_rng(_SEED)
    for number in range(300):
        world = draw_world("train", _SEED, number)
        turns = boundary_turns(world, rng) + dialogue_turns(world, rng)
        turns.append(picture_turn(make_scene(rng, split="train")))
        texts += [f"{turn.given} {turn.said}" for turn in turns]
        texts += [f"{turn.given} {turn.said}" for turn in index_turns(world)]
        texts += [" ".join(words) for words in diary(world)]
    return texts


def base_losses(
    model: LlamaForCausalLM,
    tokenizer: LlamaTokenizer,
    teacher: FrameTeacher,
    *,
    seed: int,
    num_steps: int,
    batch_size: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the loss of each step, and the share of tokens told right."""
    tokenize, decoder = TurnTokenizer(tokenizer, BEFORE_VIDEO), Decoder(model.model, model.lm_head)

    def bags(words: Sequence[Sequence[str]]) -> Tensor:
        """Return the mean embedding of the words of each."""
        ids = [torch.tensor([tokenizer.encode(word)[0] for word in one]) for one in words]
        starts = torch.tensor([0, *map(len, ids)]).cumsum(0)[:-1]
        return F.embedding_bag(torch.cat(ids), model.model.embed_tokens.weight, starts, mode="mean")

    for step in range(num_steps):
        rng = np.random.default_rng([seed, _SEED, step])
        numbers = range(step * batch_size, (step + 1) * batch_size)
        worlds = [draw_world("train", _SEED + seed, number) for number in numbers]
        turns = [
            tokenize(place, turn)
            for place, world in enumerate(worlds)
            for turn in _text_turns(world, rng, step / num_steps)
        ]
        rows: Any = bags([words for world in worlds for words in diary(world)])
        loss, taught, right = turn_loss(
            decoder,
            tokenize.prefix,
            Rows.of_frames(rows.unflatten(0, (batch_size, -1))),
            turns,
            teacher=teacher,
            facts=facts_of(worlds, SECONDS),
            looks_at_moments=True,
        )
        if step % _SCENES_EVERY_STEPS == 0:  # often enough for sentences as short as these
            scenes = [make_scene(rng, split="train") for _ in range(_NUM_SCENES)]
            pictures = Rows.of_frames(bags([scene_words(scene) for scene in scenes])[:, None])
            captions = [tokenize(place, picture_turn(scene)) for place, scene in enumerate(scenes)]
            loss = loss + turn_loss(decoder, tokenize.begin, pictures, captions)[0]
        yield loss + taught, right


def _text_turns(world: World, rng: np.random.Generator, progress: float) -> list[Turn]:
    """Return an index at first, which is short; then questions and captions besides."""
    index = index_turns(world)
    if progress < _INDEX_ALONE:
        return index
    turns = dialogue_turns(world, rng, captions=0.05) + boundary_turns(world, rng, dense=0.05)
    return [*(index[place] for place in rng.permutation(len(index))[:10]), *turns]

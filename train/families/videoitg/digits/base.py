"""What the four stages start from at full size is downloaded; here it is made, in the same layout.

A tokenizer and a small Qwen2 that has read captions stand in for Qwen2-7B-Instruct, the tower of
`train.families.videoitg.digits.vision` for SigLIP.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionModel

from groundserve.families.videoitg.config import VisionConfig
from train.digits.questions import scene_caption, scene_conversation, video_conversation
from train.digits.world import make_scene, make_world

VISION = VisionConfig(
    hidden_size=96,
    intermediate_size=288,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=72,
    patch_size=12,
)
TOWER_NAME = "siglip-digits-patch12-72"
# 256 bytes, three special tokens and up to 253 merges: the captions have few words.
VOCAB_SIZE = 512
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# The reference's `--model_max_length` of stage 4.
MAX_LENGTH = 20480
# Qwen2's pre-tokenizer: newlines stick to the punctuation before them.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_tokenizer(texts: list[str], *, vocab_size: int) -> Tokenizer:
    """Train a byte-level tokenizer with Qwen2's normaliser, pre-tokenizer and special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            # Bytes to letters alone; where words end is the pattern's business, as in Qwen2.
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        # All 256 bytes, also those that the captions lack: any question can be written.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write the files that transformers loads a Qwen2 tokenizer from."""
    tokenizer.save(str(directory / "tokenizer.json"))
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "pad_token": SPECIAL_TOKENS[0],
            "eos_token": SPECIAL_TOKENS[2],
            "bos_token": None,
            "model_max_length": MAX_LENGTH,
        },
    )


def write_tower(tower: SiglipVisionModel, config: VisionConfig, directory: Path) -> None:
    """Write a tower as the hub's SigLIP directories are."""
    directory.mkdir(parents=True)
    write_json(directory / "config.json", {"model_type": "siglip_vision_model", **asdict(config)})
    # Names in the hub's files begin so, those of this transformers' module do not.
    tensors = {f"vision_model.{name}": tensor for name, tensor in tower.state_dict().items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def write_json(path: Path, value: object) -> None:
    """Write indented JSON."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")


def write_language_model(
    directory: Path, *, seed: int, num_texts: int = 6000, batch_size: int = 32
) -> None:
    """Write a Qwen2 directory: tokenizer, and a decoder that has read captions once.

    Of the texts, what is over after whole batches is seen by the tokenizer alone.
    """
    directory.mkdir(parents=True)
    texts = _texts(seed, num_texts)
    tokenizer = make_tokenizer(texts, vocab_size=VOCAB_SIZE)
    write_tokenizer(tokenizer, directory)
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            # Qwen2-7B-Instruct's; room for every sequence of the recipe.
            max_position_embeddings=32768,
            rms_norm_eps=1e-6,
            # Qwen2's 1e6 leaves a head of 32 few waves that tell one frame from the next, 1e2 none
            # long enough to reach the question.
            rope_theta=1e4,
            use_sliding_window=False,
            tie_word_embeddings=False,
            # 0.02 is right for a width of 3584; at 128 it leaves the layers silent for long.
            initializer_range=0.1,
        )
    )
    num_steps = num_texts // batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=num_steps)
    # Each text once and in order: they are drawn independently, so a shuffle adds nothing.
    for step in range(num_steps):
        encoded = tokenizer.encode_batch(texts[step * batch_size : (step + 1) * batch_size])
        longest = max(len(text.ids) for text in encoded)
        ids = torch.zeros(batch_size, longest, dtype=torch.long)
        targets = torch.full_like(ids, -100)  # what cross_entropy leaves out
        for row, text in enumerate(encoded):
            ids[row, : len(text.ids)] = torch.tensor(text.ids)
            targets[row, : len(text.ids)] = torch.tensor(text.ids)
        # Padding comes last, where no real token of a causal model sees it.
        logits = model(input_ids=ids).logits
        # The logits at s are of the token at s + 1: (B * (S - 1), V) and (B * (S - 1),).
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    write_json(directory / "config.json", model.config.to_dict())
    save_file(model.state_dict(), directory / "model.safetensors", metadata={"format": "pt"})


def _texts(seed: int, number: int) -> list[str]:
    rng = np.random.default_rng([seed, number])
    texts = []
    for i in range(number):
        if i % 2:  # half videos, half pictures
            messages = video_conversation(make_world(rng, split="train", num_seconds=16), rng)
        else:
            scene = make_scene(rng, split="train")
            messages = scene_conversation(scene, rng) + scene_caption(scene)
        texts.append("\n".join(m["value"].removeprefix("<image>\n") for m in messages) + "\n")
    return texts

"""What Grounded-VideoLLM's training begins with, in the folders of the reference."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, processors
from torch import Tensor
from transformers import LlamaForCausalLM

from groundserve.families.grounded_videollm.decoder import projector_names
from groundserve.families.grounded_videollm.layout import (
    CLIP_NAME,
    DECODER_FOLDER,
    INTERNVIDEO_FOLDER,
    TUNED_FOLDER,
)
from groundserve.families.grounded_videollm.vision import VisionEncoder
from groundserve.families.parts import write_choices
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from train.digits.answers.answerer import Answerer
from train.digits.answers.decoder import respell, write_decoder
from train.digits.answers.tokenizer import write_tokenizer
from train.families.grounded_videollm.digits.vision import CONFIG

_BASE, _TOKENIZER = "llama3-llava-next-8b-seperated", "Meta-Llama-3-8B-Instruct"
_PRETRAINED = (
    "pretrain_llava_next_video_llama3_mix_pretrain_multi_modal_projector_video_projecter.pth"
)
_BEGIN = "<|begin_of_text|>"
_WIDER, _NEAR_PAIRS, _NEAR = 16, 6, 0.3
"""By how much heads are widened, how many pairs see neighbours, and how weakly."""
# Of Llama 3, each with the one of Llama 2 that does the same, if any.
_SPECIAL = {
    _BEGIN: "<s>",
    "<|eot_id|>": "</s>",
    "<|end_of_text|>": "</s>",
    "<|start_header_id|>": None,
    "<|end_header_id|>": None,
}


def write_before(
    encoder: VisionEncoder, answerer: Answerer, texts: Iterable[str], directory: Path
) -> None:
    """Write towers, projectors as the stage `pretrain` would leave them, tokenizer, decoder."""
    base = directory / _BASE
    folders = (base / DECODER_FOLDER, directory / _TOKENIZER)
    for folder in (*folders, directory / INTERNVIDEO_FOLDER, directory / TUNED_FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
    clip = {
        f"vision_model.{name}": tensor
        for name, tensor in answerer.vision.state_dict().items()
        if not name.startswith("visual_projection")
    }
    torch.save(clip, base / CLIP_NAME)
    torch.save(_internvideo_file(encoder), directory / INTERNVIDEO_FOLDER / "digits.pt")
    torch.save({"image_newline": encoder.spatial.terminator}, base / "image_newline.pth")
    projectors = _projectors(encoder)
    torch.save(projectors["multi_modal_projector"], base / "multi_modal_projector.pth")
    torch.save({"model": projectors}, directory / TUNED_FOLDER / _PRETRAINED)
    choices = {
        "clip_heads": str(CONFIG.clip.num_attention_heads),
        "internvideo_heads": str(CONFIG.internvideo2.num_attention_heads),
    }
    write_choices(directory, choices)
    tokenizer = _write_tokenizer(texts, directory / _TOKENIZER)
    pieces = [str(tokenizer.id_to_token(row)) for row in range(tokenizer.get_vocab_size())]
    known = [_SPECIAL.get(piece) or piece for piece in pieces]
    decoder = slowed(respell(answerer.decoder, answerer.tokenizer, known))
    write_decoder(decoder, base / DECODER_FOLDER)


def slowed(decoder: LlamaForCausalLM) -> LlamaForCausalLM:
    """Return the decoder with wider heads, which see about 32 positions as one.

    A second has 33 rows instead of one. Pairs of channels, of which each rotates at a frequency,
    are the same at those of 1/32; new ones, at the highest, see neighbours as before, but weakly.
    """
    old = decoder.config
    num_pairs, wide_pairs = old.head_dim // 2, (old.head_dim + _WIDER) // 2
    theta = old.rope_parameters["rope_theta"] ** (wide_pairs / num_pairs)
    rope = {**old.rope_parameters, "rope_theta": theta}
    given = {**old.to_dict(), "head_dim": 2 * wide_pairs, "rope_parameters": rope}
    slowed = LlamaForCausalLM(type(old)(**given))
    slow = slice(_NEAR_PAIRS, _NEAR_PAIRS + num_pairs)
    tensors = {}
    for name, tensor in decoder.state_dict().items():
        projection = name.split(".")[-2]
        if projection in ("q_proj", "k_proj"):
            pairs = tensor.unflatten(0, (-1, 2, num_pairs))
            wide = pairs.new_zeros(len(pairs), 2, wide_pairs, tensor.shape[1])
            wide[:, :, slow] = pairs
            wide[:, :, :_NEAR_PAIRS] = _NEAR * pairs[:, :, :_NEAR_PAIRS]
            # Logits are divided by the root of a head's size.
            scale = (wide_pairs / num_pairs) ** 0.5 if projection == "q_proj" else 1.0
            tensor = (scale * wide).flatten(0, 2)
        elif projection == "v_proj":
            tensor = F.pad(tensor.unflatten(0, (-1, old.head_dim)), (0, 0, 0, _WIDER)).flatten(0, 1)
        elif projection == "o_proj":
            tensor = F.pad(tensor.unflatten(1, (-1, old.head_dim)), (0, _WIDER)).flatten(1)
        tensors[name] = tensor
    slowed.load_state_dict(tensors)
    return slowed


def _internvideo_file(encoder: VisionEncoder) -> dict[str, Tensor]:
    """Return InternVideo2's own file: a last block, which is never run, is in it."""
    tower, config = encoder.internvideo2.state_dict(), CONFIG.internvideo2
    last = config.num_hidden_layers
    block = f"blocks.{last - 1}."
    unread = {n.replace(block, f"blocks.{last}."): t for n, t in tower.items() if block in n}
    of_pictures = torch.zeros(1, config.side**2 + 1, config.hidden_size)
    return {**tower, **unread, "img_pos_embed": of_pictures}


def _projectors(encoder: VisionEncoder) -> dict[str, dict[str, Tensor]]:
    tensors = encoder.state_dict()
    found: dict[str, dict[str, Tensor]] = {}
    for theirs, ours in projector_names("llama3").items():
        module, name, _ = theirs.split(".")
        for kind in ("weight", "bias"):
            found.setdefault(module, {})[f"{name}.{kind}"] = tensors[f"{ours}{kind}"]
    return found


def _write_tokenizer(texts: Iterable[str], directory: Path) -> Tokenizer:
    """Write a `tokenizer.json` with the special tokens of Llama 3, and return it.

    It normalises spaces as Llama 2's does, so that a time takes the space before it, as Phi-3.5's.
    """
    write_tokenizer(texts, directory)
    tokenizer = read_llama_tokenizer(directory, special=tuple(_SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A", special_tokens=[(_BEGIN, tokenizer.token_to_id(_BEGIN))]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
        ]
    )
    (directory / "tokenizer.model").unlink()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"clean_up_tokenization_spaces": False}) + "\n", "utf-8"
    )
    return tokenizer

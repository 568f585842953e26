"""Make a random checkpoint: python scripts/make_seeded_checkpoint.py [--size small --out DIR].

The reference's architecture with seeded random weights, in its file layout. It grounds nothing.
Size `tiny` is the committed one of tests and benchmarks, with the reference's full budget of 16,384
visual tokens; size `small` (0.7 GB) is large enough for speed to be that of matrix products. Seed,
dimensions and the tokenizer's training text stand below, so the files can be made again; the last
bits of what torch draws depend on the processor.
"""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from groundserve.families.videoitg.checkpoint import reference_state_dict
from groundserve.families.videoitg.config import CheckpointConfig, VisionConfig
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.vision import VisionEncoder
from train.families.videoitg.digits.base import make_tokenizer, write_json, write_tokenizer

# Any number, but the committed files are this one's.
SEED = 20251121
OUT = Path(__file__).parent.parent / "tests" / "fixtures" / "seeded"
NOTE = "random weights: scores mean nothing"
TEXT = [
    "When does the man ride the bike past the tree?\n",
    "Which frames show the rabbit?\n",
    "What happens after the door opens?\n",
    "Find the moment when someone picks up the phone.\n",
    "Is there a car in the video? Where is it going?\n",
]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What differs between the checkpoints; names are those of the files."""

    tower_name: str
    """`mm_vision_tower`, and the folder's name."""
    vision: dict[str, Any]
    """The tower's config.json."""
    decoder: dict[str, int]
    """Keys of config.json."""


SIZES = {
    "tiny": Size(
        tower_name="siglip-seeded-patch14-224",
        vision={
            "hidden_size": 64,
            "intermediate_size": 176,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            # 16 x 16 patches in place of the reference's 27 x 27.
            "image_size": 224,
            "patch_size": 14,
        },
        decoder={
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_attention_heads": 6,
            "num_hidden_layers": 2,
            # 6 heads share 2: grouped queries, as in the reference's Qwen2.
            "num_key_value_heads": 2,
            # The reference's whole budget: it costs no weights.
            "vision_token_num": 16384,
        },
    ),
    "small": Size(
        tower_name="siglip-small-patch16-224",
        vision={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 16,
        },
        decoder={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "num_key_value_heads": 4,
            "vision_token_num": 1024,
        },
    ),
}


def make_checkpoint(out: Path, *, size: Size) -> None:
    """Write all files into a new folder."""
    vision = {**size.vision, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
    torch.manual_seed(SEED)
    out.mkdir(parents=True)
    # 256 bytes, three special tokens, and a few merges, so that some words are one token.
    tokenizer = make_tokenizer(TEXT, vocab_size=384)
    config = {
        "architectures": ["EagleQwenG"],
        "model_type": "eagle_QwenG",
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "mm_hidden_size": vision["hidden_size"],
        "mm_patch_merge_type": "flat",
        "mm_projector_type": "seq_mlp",
        "mm_use_4_vision_tokens": False,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": size.tower_name,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 20480,
        "tokenizer_padding_side": "right",
        "torch_dtype": "float32",
        "use_mm_proj": True,
        "use_sliding_window": False,
        "vision_min_num": 1,
        "vocab_size": tokenizer.get_vocab_size(),
        **size.decoder,
    }
    # All layers: a tower's file has also those behind the selected one.
    encoder = VisionEncoder(VisionConfig(**vision), select_layer=-1)
    grounding = GroundingModel(CheckpointConfig.from_dict(config))
    for module in (encoder, grounding):
        # In this order the generator is drawn from. Norms (one dimension, no bias) keep their ones.
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                # Wide enough that frames and words move the logits.
                torch.nn.init.normal_(parameter, std=1.6 / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
    # The checkpoint holds its tower; the folder that `mm_vision_tower` names has it once more,
    # under a tower's own names.
    tensors = reference_state_dict(encoder, grounding)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    write_json(out / "config.json", config)
    write_tokenizer(tokenizer, out)
    (out / "groundserve_note.txt").write_text(NOTE + "\n")
    tower = out / size.tower_name
    tower.mkdir()
    write_json(tower / "config.json", {"model_type": "siglip_vision_model", **vision})
    prefix = "model.vision_tower.vision_tower."
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    save_file(own, tower / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Make one; the committed one again where nothing is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--out", type=Path, help="a new folder; `tiny` is written to its own place")
    args = parser.parse_args()
    if args.out is None:
        if args.size != "tiny":
            parser.error(f"--size {args.size} needs --out: it is not committed")
        shutil.rmtree(OUT, ignore_errors=True)
    make_checkpoint(args.out or OUT, size=SIZES[args.size])


if __name__ == "__main__":
    main()

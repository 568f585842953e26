"""Make a random checkpoint: python scripts/make_seeded_checkpoint.py --out DIR.

The reference's architecture with seeded random weights, in its file layout; it grounds nothing.
0.7 GB: large enough for speed to be that of matrix products. Tokenizer and config.json are those of
the tests' own, with other widths. The last bits of what torch draws depend on the processor.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from groundserve.families.videoitg.checkpoint import reference_names
from groundserve.families.videoitg.config import CheckpointConfig, VisionConfig
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.vision import VisionEncoder
from train.families.videoitg.digits.base import write_json

SEED = 20251121
COMMITTED = Path(__file__).parent.parent / "tests" / "fixtures" / "seeded"
WIDTHS = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
VISION = {**WIDTHS, "num_attention_heads": 12, "patch_size": 16}
DECODER = {
    **WIDTHS,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "mm_hidden_size": 768,
    "vision_token_num": 1024,
}


def make_checkpoint(out: Path) -> None:
    """Write all files into a new folder."""
    shutil.copytree(COMMITTED, out, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((out / "config.json").read_text("utf-8"))
    tower = out / config["mm_vision_tower"]
    vision = json.loads((tower / "config.json").read_text("utf-8"))
    config |= DECODER
    vision |= VISION
    write_json(out / "config.json", config)
    write_json(tower / "config.json", vision)
    del vision["model_type"]
    torch.manual_seed(SEED)
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
    tensors = reference_names(encoder.state_dict(), grounding.state_dict())
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    prefix = "model.vision_tower.vision_tower."
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    save_file(own, tower / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    make_checkpoint(parser.parse_args().out)

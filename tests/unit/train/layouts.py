"""Tiny directories of language models and vision towers, and what the tests of layouts share."""

import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from tests.support.reference import SET_2
from train.files import write_checkpoint

TOKENIZER = SET_2 / "videoitg-pad-endoftext"
TOWER_NAME = "siglip-tiny-patch14-56"
QWEN2 = {
    "vocab_size": 380,  # 6 rows more than the tokenizer has ids
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "max_window_layers": 2,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
    "use_sliding_window": False,
}


def make_qwen2(folder, **changes):
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(Qwen2Config(**{**QWEN2, **changes}))
    model.save_pretrained(folder, max_shard_size="40KB")
    for path in TOKENIZER.iterdir():
        if path.suffix in (".json", ".txt") and not path.name.startswith(("config", "model.")):
            shutil.copyfile(path, folder / path.name)
    return folder


def make_tower(folder):
    torch.manual_seed(2)
    config = SiglipVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
    )
    SiglipVisionModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 56, "width": 56}}')
    return folder


def make_config(stage, init, *, vision_tower=None, **changes):
    unused = Path("/unused")
    config = stage(
        init=init, vision_tower=vision_tower, records=unused, media_root=unused, out=unused
    )
    return replace(config, **changes)


def change(initial, seed):
    """Stand in for training: move every weight that the stage trains."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in initial.model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return {name: tensor.clone() for name, tensor in initial.model.state_dict().items()}


def write(folder, initial):
    write_checkpoint(folder, initial, initial.model.state_dict())
    return folder


@contextmanager
def largest_file(num_bytes):
    """Let no file grow beyond a size, as on a full disk; Python ignores the signal that comes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def all_tensors(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors

"""The config files that the four families are published with, by what these say; they all open.

The facts are of the files' public copies, and VideoITG's of what its training writes. Decoders are
made of one of their layers.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from groundserve.families.grounded_videollm.decoder import decoder_config, empty_decoder
from groundserve.families.llama import empty_llama, llama_config
from groundserve.families.vtimellm.clip import ClipConfig
from tests.support.published import VTIMELLM_CLIP

LLAMA_2 = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11_008,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.32.0.dev0",
    "use_cache": True,
    "vocab_size": 32_000,
}
WRITTEN_LATER: dict[str, dict[str, Any]] = {
    "as published": {},
    "4.40": {"attention_bias": False, "attention_dropout": 0.0, "rope_theta": 10_000.0},
    "4.45": {"head_dim": 128, "mlp_bias": False, "rope_theta": 10_000.0},
    "run with other kernels": {"_attn_implementation": "flash_attention_2"},
}
LLAMA_2S: dict[str, dict[str, Any]] = {
    "Llama-2-7b-chat": {},
    "vicuna-7b-v1.5": {"_name_or_path": "vicuna-7b-v1.5", "pad_token_id": 0},
    "vicuna-13b-v1.5": {
        "hidden_size": 5120,
        "intermediate_size": 13_824,
        "num_attention_heads": 40,
        "num_hidden_layers": 40,
        "num_key_value_heads": 40,
        "pad_token_id": 0,
    },
    # Padding has a row of its own only in tables that grew.
    "with padding behind the table": {"pad_token_id": 32_000},
}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *((name, "as published") for name in LLAMA_2S),
        *(("vicuna-7b-v1.5", w) for w in WRITTEN_LATER),
    ],
)
def test_llama_2_of_vtimellm_and_vtgllm(name, written):
    raw = {**LLAMA_2, **LLAMA_2S[name], **WRITTEN_LATER[written]}
    config = llama_config(raw, where="the part base")
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 10_000.0}
    assert (config.rms_norm_eps, config.eos_token_id) == (raw["rms_norm_eps"], 2)
    assert config.num_hidden_layers == raw["num_hidden_layers"]
    config.num_hidden_layers = 1
    empty_llama(config, where="the part base")


PHI_3_5_VISION = {
    "_name_or_path": "Phi-3.5-vision-instruct",
    "architectures": ["Phi3VForCausalLM"],
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_phi3_v.Phi3VConfig"},
    "bos_token_id": 1,
    "embd_layer": {"embedding_cls": "image", "projection_cls": "mlp"},
    "embd_pdrop": 0.0,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "img_processor": {"image_dim_out": 1024, "model_name": "openai/clip-vit-large-patch14-336"},
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131_072,
    "model_type": "phi3_v",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 32_000,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-5,
    "rope_scaling": {
        # Of 48 factors each, from the first of the published ones to the last.
        "long_factor": torch.linspace(1.08, 64.84, 48).tolist(),
        "short_factor": torch.linspace(1.08, 9.0, 48).tolist(),
        "type": "su",
    },
    "rope_theta": 10_000.0,
    "sliding_window": 262_144,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.38.1",
    "use_cache": True,
    "vocab_size": 32_064,
}


@pytest.mark.parametrize(
    ("names", "changed"),
    [
        *(
            (dict.fromkeys(keys, kind), {})
            for kind in ("su", "yarn", "longrope")
            for keys in (["type"], ["rope_type"], ["type", "rope_type"])
        ),
        # Of the decoder alone, and as later releases write it.
        ({"type": "su"}, {"model_type": "phi3", "_attn_implementation": "flash_attention_2"}),
    ],
    ids=str,
)
def test_phi_3_5_vision_of_grounded_videollm(names, changed):
    """Whatever long-RoPE is called, which changed from release to release."""
    raw = copy.deepcopy({**PHI_3_5_VISION, **changed})
    del raw["rope_scaling"]["type"]
    raw["rope_scaling"] |= names
    before = copy.deepcopy(raw)
    config = decoder_config(raw, "phi3.5", vocab_size=32_366)
    assert raw == before
    assert config.sliding_window is None
    config.num_hidden_layers = 1
    rotary = empty_decoder(config, "phi3.5", angles="float32").model.rotary_emb
    assert (rotary.max_positions, rotary.switch) == (131_072, 4096)
    cos, sin = rotary.tables()
    # spec/grounded_videollm.md 1.10: the magnitude of cos and sin.
    assert torch.hypot(cos, sin).allclose(torch.tensor(1.190238))
    # Position 1 with the short factors, and with the long ones behind those 4,096 positions.
    periods = 10_000 ** (torch.arange(0, 96, 2) / 96)
    for row, name in ((1, "short_factor"), (4097, "long_factor")):
        angles = torch.atan2(sin[row], cos[row])
        assert angles.allclose(1 / (torch.tensor(raw["rope_scaling"][name]) * periods))


@pytest.mark.parametrize("written", WRITTEN_LATER)
def test_llama_3_of_grounded_videollm(written):
    raw = {
        **LLAMA_2,
        "bos_token_id": 128_000,
        "eos_token_id": 128_009,
        "intermediate_size": 14_336,
        "max_position_embeddings": 8192,
        "num_key_value_heads": 8,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.0.dev0",
        "vocab_size": 128_256,
        **WRITTEN_LATER[written],
        "rope_theta": 500_000.0,
    }
    config = decoder_config(raw, "llama3", vocab_size=128_558)
    config.num_hidden_layers = 1
    rotary = empty_decoder(config, "llama3", angles="float32").model.rotary_emb
    assert (rotary.max_positions, rotary.switch) == (8192, None)


CLIP_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
    "projection_dim": 768,
}


@pytest.mark.parametrize(
    "written",
    [
        # As published, by 4.16 or so: with all defaults.
        {
            "hidden_act": "quick_gelu",
            "image_size": 224,
            "layer_norm_eps": 1e-5,
            "torch_dtype": None,
        },
        # Since 4.31 without what is a default.
        {"dropout": 0.0, "model_type": "clip_vision_model"},
    ],
    ids=["as published", "4.40"],
)
def test_clip_of_vtimellm(written):
    raw = {
        "architectures": ["CLIPModel"],
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": 768,
        "text_config": {"hidden_size": 768, "num_attention_heads": 12},
        "vision_config": {**CLIP_LARGE, **written},
    }
    assert ClipConfig.from_dict(raw) == VTIMELLM_CLIP

"""Sizes of the published models, of which no weights are here."""

from __future__ import annotations

from transformers import LlamaConfig, Phi3Config

from groundserve.families.clip import ClipTowerConfig
from groundserve.families.grounded_videollm.internvideo2 import InternVideo2Config
from groundserve.families.videoitg.config import KNOWN_TOWERS, CheckpointConfig
from groundserve.families.vtgllm.eva import EvaConfig
from groundserve.families.vtgllm.vision import QFormerConfig
from groundserve.families.vtimellm.clip import ClipConfig

VIDEOITG = CheckpointConfig(
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    max_position_embeddings=32768,
    mm_vision_tower="google/siglip-so400m-patch14-384",
    mm_hidden_size=1152,
    mm_vision_select_layer=-2,
    vision_token_num=16384,
    initializer_range=0.02,
    tokenizer_model_max_length=20480,
)
SO400M = KNOWN_TOWERS["siglip-so400m-patch14-384"]
VTIMELLM_CLIP = ClipConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    image_size=224,
    patch_size=14,
    projection_dim=768,
)
GROUNDED_CLIP = ClipTowerConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=23,  # of 24, those that are read
    num_attention_heads=16,
    image_size=336,
    patch_size=14,
)
# EVA-g's, and those of InternVideo2's 1B.
_TOWER = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
INTERNVIDEO2 = InternVideo2Config(**_TOWER, num_frames=8)
EVA = EvaConfig(**_TOWER)
Q_FORMER = QFormerConfig(
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    max_position_embeddings=512,
)
LLAMA_2 = LlamaConfig(
    hidden_size=4096,
    intermediate_size=11_008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
)
"""Vicuna's as well."""
LLAMA_3 = LlamaConfig(
    hidden_size=4096,
    intermediate_size=14_336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
PHI_3_5 = Phi3Config(
    hidden_size=3072,
    intermediate_size=8192,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
)

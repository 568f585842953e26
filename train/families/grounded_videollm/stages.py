"""The three stages at full size.

Source: WHB139426/Grounded-Video-LLM e26da4e, `scripts/phi3.5_*_8_a100.sh`, `train.py` and
`training/fsdp.py`; a comment beside a value names the argument. No script is published for Llama-3.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from train.config import AdapterConfig, DataConfig, OptimizerConfig, Stage, StageConfig
from train.families.base import StageFunction


def pretrain(
    *, init: Path, records: Path, media_root: Path, out: Path, vision_tower: Path | None = None
) -> StageConfig:
    """Both projectors learn to caption videos, on `mix_pretrain.json`; 256 samples a step."""
    return StageConfig(
        stage="grounded-videollm-pretrain",  # --stage
        init=init,
        vision_tower=vision_tower,
        out=out,
        data=DataConfig(
            records=records,
            media_root=media_root,  # --data_dir
            max_frames=96,  # --num_frames, of which a segment has 8: --num_segs 12
            max_length=2048,  # --max_txt_len
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-3,  # --lr
            spatial_learning_rate=1e-5,  # --mm_proj_lr
            warmup_ratio=0.03,  # --warmup_ratio
            warmup_rounds_down=True,
            max_grad_norm=1.0,
        ),
        batch_size=16,  # --per_device_batch_size
        accumulation_steps=2,  # of 8 GPUs: --global_batch_size 256
        parallelism="fsdp2",
    )


def grounded(**paths: Any) -> StageConfig:
    """Tables, head and an adapter as well learn to tell times, on `mix_grounded.json`."""
    before = pretrain(**paths)
    return replace(
        before,
        stage="grounded-videollm-grounded",
        data=replace(before.data, max_length=4096),  # --max_txt_len
        optimizer=replace(
            before.optimizer,
            learning_rate=2e-5,  # --lr
            spatial_learning_rate=None,
            adapter_learning_rate=2e-4,  # --lora_lr
        ),
        adapter=AdapterConfig(rank=128, alpha=256, dropout=0.05),  # --lora
        accumulation_steps=1,  # --global_batch_size 128
        epochs=3,  # --epoch
    )


def sft(**paths: Any) -> StageConfig:
    """All of that goes on, on `mix_sft.json`: questions of every kind; 96 samples a step."""
    before = grounded(**paths)
    return replace(
        before,
        stage="grounded-videollm-sft",
        data=replace(before.data, max_length=2048),  # --max_txt_len
        batch_size=12,  # --per_device_batch_size
        epochs=1,  # --epoch
    )


STAGES: dict[Stage, StageFunction] = {
    "grounded-videollm-pretrain": pretrain,
    "grounded-videollm-grounded": grounded,
    "grounded-videollm-sft": sft,
}

"""The three stages at full size.

Source: huangb23/VTimeLLM c34ae56, `scripts/stage1.sh`, `scripts/stage2.sh`, `scripts/stage3.sh`;
a comment beside a value names the argument. What they leave out is transformers 4.31.0's default.
No clipping is configured: DeepSpeed does it where `scripts/zero*.json` say so, and they do not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from train.config import AdapterConfig, DataConfig, OptimizerConfig, Stage, StageConfig
from train.families.base import StageFunction


def stage_1(
    *, init: Path, records: Path, media_root: Path, out: Path, vision_tower: Path | None = None
) -> StageConfig:
    """The projector learns to caption images, on features of `blip_laion_cc_sbu_558k.json`."""
    return StageConfig(
        stage="vtimellm-1",  # tune_mm_mlp_adapter
        init=init,
        vision_tower=vision_tower,
        out=out,
        data=DataConfig(
            records=records,
            media_root=media_root,  # --feat_folder
            max_frames=100,
            max_length=2048,  # --model_max_length
            num_workers=4,  # --dataloader_num_workers
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-3,  # --learning_rate
            warmup_ratio=0.03,  # --warmup_ratio
        ),
        batch_size=16,  # --per_device_train_batch_size
        # --gradient_accumulation_steps, of one GPU: 128 samples a step. With more GPUs fewer.
        accumulation_steps=8,
        parallelism="fsdp2",
    )


def stage_2(**paths: Any) -> StageConfig:
    """A first adapter learns to tell what happens when, on `stage2.json`."""
    before = stage_1(**paths)
    return replace(
        before,
        stage="vtimellm-2",  # --lora_enable, --freeze_mm_mlp_adapter
        optimizer=replace(before.optimizer, learning_rate=1e-4),  # --learning_rate
        # --lora_r, --lora_alpha; lora_dropout of `train.py`
        adapter=AdapterConfig(rank=64, alpha=128, dropout=0.05),
        batch_size=8,  # --per_device_train_batch_size
        accumulation_steps=16,  # --gradient_accumulation_steps
        epochs=2,  # --num_train_epochs
    )


def stage_3(**paths: Any) -> StageConfig:
    """A second adapter learns to converse, on `stage3.json`; the first is merged into the base."""
    return replace(stage_2(**paths), stage="vtimellm-3")  # --training_stage, --stage2_path


STAGES: dict[Stage, StageFunction] = {
    "vtimellm-1": stage_1,
    "vtimellm-2": stage_2,
    "vtimellm-3": stage_3,
}

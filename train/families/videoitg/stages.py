"""The four stages at full size, each a complete config that is derived from the one before.

Source: NVlabs/VideoITG fab8b54, `scripts/videoitg/pretrain-qwen2-7b.sh` (stage 1),
`scripts/videoitg/finetune-qwen2-7b-ov.sh` (2), `scripts/videoitg/finetune-qwen2-7b-video.sh` (3),
`scripts/videoitg/finetune-qwen2-7b-grounding.sh` (4). A comment beside a value names the script's
argument. The paper is arXiv 2507.13353; where it disagrees the scripts count, and both are named.

What all four share stands as defaults in `train.config`: one epoch, AdamW (0.9, 0.999, 1e-8)
without decay, cosine to 0, no clipping, no accumulation, gradient checkpointing, bf16, seed 42,
a checkpoint every 500 steps and a line of metrics every step.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from train.config import DataConfig, OptimizerConfig, Stage, StageConfig
from train.families.base import StageFunction

_NEXT: dict[Stage, dict[str, dict[str, Any]]] = {
    "images": {
        "data": {
            "template": "chatml",  # --version qwen_1_5
            "num_workers": 2,  # --dataloader_num_workers
        },
        "optimizer": {"learning_rate": 2e-5},  # --learning_rate
        "config": {"batch_size": 1},  # --per_device_train_batch_size
    },
    "video": {
        # --video_frames; the paper says 64. At 256 the largest grid is 6, at 64 it is 13.
        "data": {"max_frames": 256},
    },
    "grounding": {
        "data": {
            "template": "plain",  # --version plain; what is read is the question alone
            "max_frames": 1024,  # --video_frames
            # --vision_token_num, --vision_min_num. The paper's 16 tokens a frame at 512 frames
            # would be a budget of 8192 to 12799; this one gives 25.
            "vision_token_num": 16384,
            "vision_min_num": 1,
            "max_length": 20480,  # --model_max_length
            "group_by_length": True,  # --group_by_modality_length
            "num_workers": 6,  # --dataloader_num_workers
        },
        "optimizer": {
            # --out_proj_lr: also the projector's, see `OptimizerConfig`; the rest keeps 2e-5.
            "out_proj_learning_rate": 2e-4,
            "warmup_ratio": 0.05,  # --warmup_ratio
        },
    },
}
"""What a stage changes of the one before it."""


def projector(
    *, init: Path, records: Path, media_root: Path, out: Path, vision_tower: Path | None = None
) -> StageConfig:
    """Stage 1: the projector alone learns to caption images; 256 samples a step.

    From Qwen2-7B-Instruct and siglip-so400m-patch14-384, which is later found beside `init`, on
    LLaVA-Pretrain's `blip_laion_cc_sbu_558k.json`. (The reference's README links the 595K set
    instead; the script names this file.)
    """
    return StageConfig(
        stage="projector",  # tune_mm_mlp_adapter
        init=init,
        vision_tower=vision_tower,
        out=out,
        data=DataConfig(
            records=records,
            media_root=media_root,
            template="plain",  # --version plain
            max_frames=64,  # --video_frames; images are videos of one frame
            sample_fps=1.0,  # --fps
            # --vision_token_num, --vision_min_num; also the defaults of train_vlm.py, which the
            # scripts of stages 2 and 3 leave as they are.
            vision_token_num=12480,
            vision_min_num=4,
            max_length=16384,  # --model_max_length
            group_by_length=False,
            num_workers=4,  # --dataloader_num_workers
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-3,  # --learning_rate
            warmup_ratio=0.03,  # --warmup_ratio
        ),
        # --per_device_train_batch_size. The paper's 256 samples a step are 128 processes; with
        # fewer, accumulate.
        batch_size=2,
        # Instead of DeepSpeed's ZeRO 1 (stages 1, 2 and 4) and 2 (stage 3): the same numbers.
        parallelism="fsdp2",
    )


def images(**paths: Any) -> StageConfig:
    """Stage 2, on LLaVA-OneVision's images in one list: all but the tower learns to answer.

    (The paper says all parameters; `--freeze_vision` is never read, and the released code keeps
    the tower frozen.) The script asks for a projector type "patch_mergerv2", which the released
    code does not know; it is the `seq_mlp` of the other stages here. The reference starts from
    Qwen2-7B-Instruct again and adds stage 1's `mm_projector.bin`; nothing else was trained, so
    that is the same model as stage 1's output.
    """
    return _following("images", projector(**paths))


def video(**paths: Any) -> StageConfig:
    """Stage 3: the same on LLaVA-Video-178K, multiple choice and open-ended, in one list."""
    return _following("video", images(**paths))


def grounding(**paths: Any) -> StageConfig:
    """Stage 4, on VideoITG-40K: all but the tower learns to score frames; 128 samples a step.

    The reference starts from `exiawsh/eagle-qwen2-7b-finetune-uni-ov-video-finetune-sftv1`.
    """
    return _following("grounding", video(**paths))


def _following(stage: Stage, before: StageConfig) -> StageConfig:
    changes = _NEXT[stage]
    return replace(
        before,
        stage=stage,
        data=replace(before.data, **changes["data"]),
        optimizer=replace(before.optimizer, **changes.get("optimizer", {})),
        **changes.get("config", {}),
    )


STAGES: dict[Stage, StageFunction] = {
    "projector": projector,
    "images": images,
    "video": video,
    "grounding": grounding,
}

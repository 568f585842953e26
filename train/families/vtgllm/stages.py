"""The one stage at full size.

Source: gyxxyg/VTG-LLM ce13f3e, `train_configs/videollama/pretrain-slot-sample-fmt-96.yaml`, whose
keys stand beside the values, and `vtgllm/runners/runner_base.py`. Those below `fintune/` start from
what this stage wrote, and differ in data, epochs and passes a step.
"""

from __future__ import annotations

from pathlib import Path

from train.config import AdapterConfig, DataConfig, OptimizerConfig, Stage, StageConfig
from train.families.base import StageFunction

_PASSES = 4  # accum_grad_iters


def instruct(
    *, init: Path, records: Path, media_root: Path, out: Path, vision_tower: Path | None = None
) -> StageConfig:
    """All but EVA and Llama's layers learn to tell times, on VTG-IT and Valley."""
    return StageConfig(
        stage="vtgllm-instruct",
        init=init,
        vision_tower=vision_tower,
        out=out,
        data=DataConfig(
            records=records,
            media_root=media_root,  # videos_dir
            max_frames=96,  # num_frm
            max_length=2048 - 255,  # max_txt_len, in which the video counts as 256
            num_workers=6,  # num_workers
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-5,  # init_lr
            warmup_learning_rate=1e-6,  # warmup_lr
            min_learning_rate=1e-5,  # min_lr
            warmup_ratio=0.06,  # warmup_steps 8137 of iters_per_epoch 13562 * max_epoch 10
            weight_decay=0.05,  # weight_decay
            # The reference adds up the gradients of the passes, of which we take the mean.
            eps=1e-8 / _PASSES,
        ),
        adapter=AdapterConfig(rank=32, alpha=32, dropout=0.1),  # lora; `vtgllm/models/vtgllm.py`
        batch_size=1,  # batch_size_train
        accumulation_steps=_PASSES,  # of 16 devices: 64 samples a step
        epochs=10,  # max_epoch
        parallelism="fsdp2",
    )


STAGES: dict[Stage, StageFunction] = {"vtgllm-instruct": instruct}

"""VideoITG in training, as the shared loop sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from groundserve.families.videoitg.checkpoint import Checkpoint
from train.config import Stage, StageConfig
from train.cost import SampleFlops
from train.families.base import StageFunction
from train.families.videoitg.flops import sample_flops
from train.families.videoitg.layout import Initial, is_known, open_initial, open_source
from train.families.videoitg.samples import Samples
from train.families.videoitg.stages import STAGES


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """See `train.families.base.Source`."""

    checkpoint: Checkpoint

    def samples(self, config: StageConfig) -> Samples:
        """Return the format of a run's samples."""
        tokenizer, pad_token_id = self.checkpoint.load_tokenizer()
        return Samples(
            config.data,
            stage=config.stage,
            tokenizer=tokenizer,
            pad_token_id=pad_token_id,
            image_size=self.checkpoint.vision_config.image_size,
            side=self.checkpoint.vision_config.side,
        )

    def sample_flops(
        self,
        config: StageConfig,
        *,
        num_frames: int,
        tokens_per_frame: int,
        num_text_tokens: int,
        num_targets: int,
    ) -> SampleFlops:
        """See the function of that name."""
        return sample_flops(
            config,
            self.checkpoint.config,
            self.checkpoint.vision_config,
            num_frames=num_frames,
            tokens_per_frame=tokens_per_frame,
            num_text_tokens=num_text_tokens,
            num_targets=num_targets,
        )


class VideoITG:
    """See `train.families.base.TrainingFamily`."""

    stages: Mapping[Stage, StageFunction] = STAGES

    def recognises(self, raw_config: Mapping[str, Any]) -> bool:
        """Tell whether a config.json is a plain language model's or of the reference's classes."""
        return is_known(raw_config)

    def open_source(self, config: StageConfig) -> Source:
        """See the function of that name in `layout`."""
        return Source(checkpoint=open_source(config))

    def open_initial(self, config: StageConfig, *, num_auxiliary: int) -> Initial:
        """See the function of that name in `layout`."""
        return open_initial(config, num_auxiliary=num_auxiliary)

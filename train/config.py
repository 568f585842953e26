"""What a training run is: one frozen dataclass a component, checked when it is made.

The defaults are those that VideoITG's four stages share; the `stages` of a family set the rest.
"Source" below is NVlabs/VideoITG fab8b54, `scripts/videoitg/`, `train_vlm.py`
(stages 1 to 3), `train_itg.py` (4) and `eagle/train/eagle_trainer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundserve.errors import InvalidRequestError

Stage = Literal[
    "projector",
    "images",
    "video",
    "grounding",
    "vtimellm-1",
    "vtimellm-2",
    "vtimellm-3",
    "grounded-videollm-pretrain",
    "grounded-videollm-grounded",
    "grounded-videollm-sft",
    "vtgllm-instruct",
]
"""VideoITG's four; of the others each begins with its family."""
Variant = Literal["pooling", "anchor"]
Template = Literal["plain", "chatml"]
Parallelism = Literal["none", "ddp", "fsdp2", "hsdp"]
Precision = Literal["fp32", "bf16"]

RANDOM_SAMPLE_FPS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""What `sample_fps=None` draws from, once a sample."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples are read, and how."""

    records: Path
    """JSON list of records: conversations (stages 1 to 3), VideoITG-40K (stage 4), or the family's
    own."""
    media_root: Path
    """Folder that the records' `image` and `video` paths start from; of VTimeLLM that of its
    features, ID.npy, too."""
    template: Template = "plain"
    """How a conversation becomes text; used by VideoITG's stages 1 to 3 alone."""
    max_frames: int
    """Ceiling on the sampled frames T of a video; text families sample as many of each."""
    sample_fps: float | None = 1.0
    """Frames a second aimed at; None draws it from `RANDOM_SAMPLE_FPS` for every sample."""
    vision_token_num: int = 12480
    """Budget of visual tokens; a frame of T has at most floor(sqrt(budget / T)) squared."""
    vision_min_num: int = 4
    """Square root of the fewest tokens a frame that are drawn, and may be left by the budget."""
    max_length: int
    """Most visual and text tokens of one sequence; a longer sample cannot be read. Of a text
    family: most text tokens, the video counted as one; a longer text is cut off behind them."""
    questions_per_video: int = 1
    """Records of one video that share its decoding and encoding. 1 is the reference's."""
    group_by_length: bool = False
    """Sort blocks of a shuffled epoch by the number of words of the question."""
    frame_cache: Path | None = None
    """Folder that keeps the sampled frames of videos as JPEG, for all ranks and epochs."""
    max_unreadable_share: float = 0.05
    """A run ends when more than this share of the items it tried cannot be read; see
    `train.unreadable`. One in twenty is likely a folder that was not downloaded."""
    num_workers: int = 2
    """Processes of each rank that decode; they work ahead of the training step."""

    def __post_init__(self) -> None:
        counts = ("max_frames", "vision_token_num", "vision_min_num", "max_length")
        for name in (*counts, "questions_per_video", "num_workers"):
            _check_at_least(name, getattr(self, name), 1)
        _check_above_0("sample_fps", self.sample_fps)
        if not 0 <= self.max_unreadable_share <= 1:
            raise InvalidRequestError(
                f"max_unreadable_share must be in [0, 1], got {self.max_unreadable_share}"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, a linear warm-up, a cosine."""

    learning_rate: float
    """Peak rate of everything that is trained."""
    out_proj_learning_rate: float | None = None
    """Peak rate of the parameters whose name contains `out_proj`; None: one rate for all. The
    substring also matches `mm_projector.out_projection`, as in the reference."""
    adapter_learning_rate: float | None = None
    """Peak rate of the adapter; None: as all others."""
    spatial_learning_rate: float | None = None
    """Peak rate of Grounded-VideoLLM's projector behind CLIP; None: as all others."""
    out_proj_matches_projector: bool = True
    """Reproduce that match; False gives the fast rate to the head alone."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Of all but vectors: biases, norms."""
    warmup_ratio: float
    """Share of the steps, rounded up, in which the rate rises from 0."""
    warmup_rounds_down: bool = False
    """Round that share down instead; the rate of the first step is 0 all the same."""
    warmup_learning_rate: float | None = None
    """Rate at which the warm-up begins; None: 0. Set with `min_learning_rate`."""
    min_learning_rate: float | None = None
    """Rate at which the cosine ends, which then begins with the run and is cut by the warm-up, by
    passes and not steps, as VTG-LLM's; None: 0, and the cosine begins behind the warm-up."""
    max_grad_norm: float | None = None
    """Largest norm of the gradient. None, no clipping, is what the reference's runs amount to."""

    def __post_init__(self) -> None:
        rates = ("learning_rate", "out_proj_learning_rate", "adapter_learning_rate")
        ends = ("warmup_learning_rate", "min_learning_rate")
        for name in (*rates, *ends, "spatial_learning_rate", "max_grad_norm"):
            _check_above_0(name, getattr(self, name))
        if (self.warmup_learning_rate is None) != (self.min_learning_rate is None):
            raise InvalidRequestError(f"{ends[0]} and {ends[1]} must be set together, or neither")
        if not 0 <= self.warmup_ratio < 1:
            raise InvalidRequestError(f"warmup_ratio must be in [0, 1), got {self.warmup_ratio}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InvalidRequestError(f"betas must be in [0, 1), got {list(self.betas)}")
        for name in ("eps", "weight_decay"):
            _check_at_least(name, getattr(self, name), 0)


@dataclass(frozen=True, kw_only=True)
class PartsConfig:
    """What `--part` says of a checkpoint, as `groundserve ask` takes it."""

    llm: Literal["phi3.5", "llama3"] | None = None
    """The decoder, where `init` has folders of both."""
    clip_heads: int | None = None
    internvideo_heads: int | None = None
    eva_heads: int | None = None
    """Heads of the towers, where their files do not say them."""
    config: Path | None = None
    """VTG-LLM's YAML, where `init` has several."""

    @property
    def given(self) -> dict[str, list[str]]:
        """What is said, as `groundserve.families.parts.PartSearch` takes it."""
        return {name: [str(value)] for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """LoRA on linear layers of the decoder: y = W x + alpha / rank * B A dropout(x)."""

    rank: int
    """Rows of A."""
    alpha: float
    """The product is multiplied by alpha / rank."""
    dropout: float
    """Share of the adapter's inputs that is dropped."""
    is_trained: bool = True
    """False, of VTG-LLM alone: it stays as it was, as in the newest code of its reference."""

    def __post_init__(self) -> None:
        _check_at_least("rank", self.rank, 1)
        _check_above_0("alpha", self.alpha)
        if not 0 <= self.dropout < 1:
            raise InvalidRequestError(f"dropout must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """What a run of stage 4 is measured on while it goes on; see `train.validation`."""

    records: Path
    """JSON list of records that are not trained on, in the format of stage 4; at least one with
    relevant frames."""
    media_root: Path
    """Folder that their `video` paths start from."""
    every_steps: int
    """Steps between measurements, of which there is one before the first step and one after the
    last; a checkpoint is written wherever one is due."""

    def __post_init__(self) -> None:
        _check_at_least("every_steps", self.every_steps, 1)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of training."""

    stage: Stage
    """Decides the model (causal with an LM head, or grounding), the records and what is trained."""
    init: Path
    """Checkpoint to start from: a language model's directory (stage 1) or an earlier stage's
    output. It decides the family that is trained."""
    vision_tower: Path | None = None
    """Directory of the vision tower; None finds it beside `init`."""
    out: Path
    """Folder of the run: `checkpoint-<step>/`, `final/`, `metrics.jsonl`, `tensorboard/`; with
    `validation` also `best/`."""
    data: DataConfig
    optimizer: OptimizerConfig
    parts: PartsConfig = PartsConfig()
    """What `init` does not say of a text family's parts."""
    adapter: AdapterConfig | None = None
    """What a text family's stage trains of its decoder; None: no adapter."""
    validation: ValidationConfig | None = None
    """Frame AP on other records during stage 4, and the best checkpoint by it; None: neither."""
    variant: Variant = "pooling"
    """How frames are scored in stage 4: C, pooled outputs under full attention, or B, anchor
    tokens behind the question under causal attention."""
    batch_size: int = 1
    """Items (videos or images) a process and forward pass."""
    accumulation_steps: int = 1
    """Forward passes an optimiser step."""
    epochs: int = 1
    """Passes over the records."""
    max_steps: int | None = None
    """Stop after so many optimiser steps; the schedule ends there too. None: whole epochs."""
    seed: int = 42
    """Decides the order, the tokens a frame and new weights."""
    precision: Precision = "bf16"
    """Arithmetic; weights, gradients' sums and the optimiser's state stay in float32."""
    gradient_checkpointing: bool = True
    """Recompute the decoder's layers in the backward pass."""
    parallelism: Parallelism = "none"
    """What several processes share: nothing (one process), gradients (`ddp`), weights as well
    (`fsdp2`), or weights within a node and gradients between nodes (`hsdp`)."""
    auxiliary_weight: float = 0.0
    """Weight of a per-frame loss on what the records say is shown, which the reference has not."""
    save_every_steps: int = 500
    """Steps between checkpoints."""
    keep_last: int = 2
    """Checkpoints kept besides `final/`."""
    log_every_steps: int = 1
    """Steps between lines of metrics."""

    def __post_init__(self) -> None:
        counts = ("batch_size", "accumulation_steps", "epochs", "save_every_steps", "keep_last")
        for name in (*counts, "log_every_steps", "max_steps"):
            _check_at_least(name, getattr(self, name), 1)
        for name, is_set, what in (
            ("variant", self.variant == "anchor", '"anchor" is a way to score frames'),
            ("validation", self.validation is not None, "measures how frames are ranked"),
        ):
            if is_set and not self.is_grounding:
                raise InvalidRequestError(
                    f'{name} {what}, stage "{self.stage}" writes text; '
                    f'set {name} in stage "grounding" only'
                )
        _check_at_least("auxiliary_weight", self.auxiliary_weight, 0)
        if self.adapter and not self.adapter.is_trained and not self.stage.startswith("vtgllm-"):
            raise InvalidRequestError(
                f'adapter.is_trained must be true in stage "{self.stage}"; only VTG-LLM has a code '
                "that leaves its adapter as it was"
            )

    @property
    def is_grounding(self) -> bool:
        """Whether frames are scored; else text is written."""
        return self.stage == "grounding"


def _check_at_least(name: str, value: float | None, minimum: int) -> None:
    if value is not None and not value >= minimum:
        raise InvalidRequestError(f"{name} must be >= {minimum}, got {value}")


def _check_above_0(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise InvalidRequestError(f"{name} must be > 0, got {value}")

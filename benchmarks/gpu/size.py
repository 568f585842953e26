"""The sizes that are measured, and the arithmetic they need, which a machine's peak makes a floor.

Shape letters: T frames, g grid side, N = T*g*g visual tokens, Q text tokens, S = N + Q, P patches a
frame, D decoder width, D_v vision width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.config import KNOWN_TOWERS, CheckpointConfig, VisionConfig
from groundserve.families.videoitg.grid import grid_side


@dataclass(frozen=True, kw_only=True)
class Size:
    """A model's dimensions and the requests it is measured with. One multiply-add is 2 FLOP."""

    name: str
    checkpoint: CheckpointConfig
    """Projector, decoder and budget."""
    tower: VisionConfig
    """The whole vision tower, also the layers that only the reference computes."""
    num_text_tokens: int
    """Q."""
    main_frames: int
    """T of the request that the targets speak of."""
    other_frames: tuple[int, ...]
    """T of the other requests."""

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, num_frames: int, num_text_tokens: int) -> Size:
        """Return a checkpoint's dimensions with one request."""
        return cls(
            name=checkpoint.name,
            checkpoint=checkpoint.config,
            tower=checkpoint.vision_config,
            num_text_tokens=num_text_tokens,
            main_frames=num_frames,
            other_frames=(),
        )

    @property
    def num_vision_layers(self) -> int:
        """Layers that the features need."""
        return self.tower.num_layers_used(self.checkpoint.mm_vision_select_layer)

    def grid(self, num_frames: int) -> int:
        """Return g."""
        budget = self.checkpoint.vision_token_num
        return grid_side(num_frames, vision_token_num=budget, side=self.tower.side)

    def num_tokens(self, num_frames: int) -> int:
        """Return S."""
        return num_frames * self.grid(num_frames) ** 2 + self.num_text_tokens

    def vision_flop(self, num_frames: int, *, num_layers: int | None = None) -> float:
        """Return the FLOP of patches and layers; the needed layers where `num_layers` is None."""
        layers = self.num_vision_layers if num_layers is None else num_layers
        return num_frames * self.tower.frame_flop(layers)

    def grounding_flop(self, num_frames: int) -> float:
        """Return the FLOP of projector and decoder for one question."""
        config = self.checkpoint
        width, num_tokens = config.hidden_size, self.num_tokens(num_frames)
        num_visual = num_tokens - self.num_text_tokens
        projector = 2 * num_visual * (config.mm_hidden_size * width + width**2)
        return config.decoder_flop(num_tokens) + projector

    def net_flop(self, *, all_layers: bool = False) -> dict[str, float]:
        """Return what the networks compute for the main request: "encode" and "ground".

        With `all_layers` the vision layers behind the one that is used count, which the reference
        computes; its norm and pooling head never do.
        """
        layers = self.tower.num_hidden_layers if all_layers else self.num_vision_layers
        return {
            "encode": self.vision_flop(self.main_frames, num_layers=layers),
            "ground": self.grounding_flop(self.main_frames),
        }


FULL = Size(
    name="full: SigLIP so400m at 384 pixels, Qwen2-7B",
    checkpoint=CheckpointConfig(
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
    ),
    tower=KNOWN_TOWERS["siglip-so400m-patch14-384"],
    num_text_tokens=100,
    main_frames=512,
    other_frames=(64, 128, 256, 1024),
)

SMALL = Size(
    name="small: same architecture, no use but to try this program",
    checkpoint=replace(
        FULL.checkpoint,
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        mm_hidden_size=48,
        vision_token_num=64,
    ),
    tower=VisionConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=58,
        patch_size=14,
    ),
    num_text_tokens=5,
    main_frames=16,
    other_frames=(4, 64),
)

"""What serving must know of a VTG-LLM model."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class VTGLLMSpec:
    """What serving must know of the model; defaults are those of the published one."""

    num_frames: int = 96
    """Most frames T: the rows of the embedding of frames."""
    image_size: int = 224
    """Side in pixels of the square frames the vision tower takes."""
    tokens_per_frame: int = 32
    """P: queries of the Q-Former, and the tokens of a frame's sentence where it reads one."""
    feature_width: int = 768
    """D, width of the Q-Former's vectors."""
    num_slots: int | None = 256
    """Visual tokens of the decoder, whatever T: all frames' vectors are pooled to so many. None:
    they are not pooled, and the decoder sees T * P."""
    num_time_rows: int | None = 8192
    """Rows of the embedding of seconds; None: the model has none, and knows times as text only."""
    max_tokens: int | None = 3000
    """Visual and text tokens together, the answer's among them."""
    hidden_size: int = 4096
    end_token_id: int = 2
    time_tokens: bool = True
    """Whether times are spelled in tokens of their own, in the prompt and in the answer."""
    frame_text_before: list[int] = field(default_factory=list)
    """BERT's tokens of a frame's sentence, up to its time; none where the Q-Former reads none."""
    frame_text_digits: list[int] = field(default_factory=list)
    """BERT's tokens of the digits 0 to 9 and of the point, of which that time is spelled."""
    frame_text_after: list[int] = field(default_factory=list)
    """BERT's tokens behind that time."""

    @property
    def max_feature_tokens(self) -> int:
        """Most tokens of a video in FEATURES."""
        return self.num_frames * self.tokens_per_frame

    def num_visual_tokens(self, num_frames: int) -> int:
        """Return how many tokens the decoder sees of so many frames."""
        return num_frames * self.tokens_per_frame if self.num_slots is None else self.num_slots

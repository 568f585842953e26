"""The arithmetic that an answer needs, which a machine's GEMM peak turns into its floor."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks._machine import Peaks
from benchmarks.gpu.size import Size
from groundserve.families.videoitg.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class NetFlop:
    """What the networks compute for one video and one question. One multiply-add is 2 FLOP."""

    encode: float
    ground: float
    """Projector and decoder."""

    def seconds(self, peaks: Peaks, *, is_int8: bool = False) -> dict[str, float]:
        """Return the least time of each; only vision is ever in 8 bits."""
        rate = peaks.int8_gemm_gops if is_int8 else peaks.sgemm_gflops
        return {"encode": self.encode / (rate * 1e9), "ground": peaks.gemm_seconds(self.ground)}


def net_flop(
    checkpoint: Checkpoint, *, num_frames: int, num_text_tokens: int, all_layers: bool = False
) -> NetFlop:
    """Count by the model's dimensions; see `Size`.

    Args:
        checkpoint: The model.
        num_frames: T.
        num_text_tokens: Q.
        all_layers: Whether the vision layers behind the one that is used count, which the reference
            computes; its norm and pooling head never do. Nor does what pooling does not read of the
            last layer come off.
    """
    size = checkpoint_size(checkpoint, num_frames=num_frames, num_text_tokens=num_text_tokens)
    layers = size.tower.num_hidden_layers if all_layers else size.num_vision_layers
    return NetFlop(
        encode=size.vision_flop(num_frames, num_layers=layers),
        ground=size.grounding_flop(num_frames),
    )


def checkpoint_size(checkpoint: Checkpoint, *, num_frames: int, num_text_tokens: int) -> Size:
    """Return a checkpoint's dimensions with one request."""
    return Size(
        name=checkpoint.name,
        checkpoint=checkpoint.config,
        tower=checkpoint.vision_config,
        num_text_tokens=num_text_tokens,
        main_frames=num_frames,
        other_frames=(),
    )

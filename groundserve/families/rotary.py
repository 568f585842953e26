"""How a decoder rotates positions: as its checkpoint was run, in PyTorch and in every export.

Shape letters: B batch, S positions of one pass, R regimes, C positions of the model, d head size.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from groundserve.errors import UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_MAGNITUDES = frozenset({"factor", "attention_factor", "short_mscale", "long_mscale"})


class RotaryTables(nn.Module):
    """Stands in for `model.rotary_emb` of a causal decoder of transformers.

    Where a model has two lists of frequencies, one for short and one for long sequences, a pass
    does not choose by its own length, but is told: its position ids are those of
    `RotaryTables.position_ids`. In regime 0 position p has the id p, in regime 1 C + p.
    """

    def __init__(
        self,
        frequencies: Tensor,
        *,
        max_positions: int,
        switch: int | None = None,
        scale: float = 1.0,
        angles: torch.dtype = torch.float32,
        rounding: torch.dtype = torch.float32,
    ) -> None:
        """Take float32 (R, d/2), radians a position in each regime.

        Position, frequency, their product, its cos and its sin are rounded to `angles`, cos and
        sin times `scale` to `rounding` in the end.
        """
        super().__init__()
        assert len(frequencies) == (1 if switch is None else 2), "a list of each regime"
        # No buffer: a model that moves to another dtype would take it along.
        self._frequencies = frequencies
        self._scale = scale
        self._angles = angles
        self._rounding = rounding
        self.max_positions = max_positions
        """C."""
        self.switch = switch
        """Most positions of a sequence in regime 0; None where there is no other."""

    @classmethod
    def of(
        cls,
        config: PreTrainedConfig,
        *,
        angles: torch.dtype = torch.float32,
        rounding: torch.dtype = torch.float32,
    ) -> Self:
        """Return the tables of a decoder.

        Source of the magnitude: WHB139426/Grounded-Video-LLM e26da4e, `models/modeling_phi3.py`.
        """
        rope = config.rope_parameters
        kind, part = rope["rope_type"], rope.get("partial_rotary_factor", 1.0)
        if kind not in ("default", "longrope"):
            raise UnsupportedError(f"rope_type must be default or longrope, got {kind}")
        if part != 1:
            raise UnsupportedError(f"heads must be rotated as a whole, got {part} of each")
        given = sorted(_MAGNITUDES & rope.keys())
        if given:
            raise UnsupportedError(
                f"rope_parameters must leave {given[0]} to the lengths, got {rope[given[0]]}"
            )
        head_size = getattr(config, "head_dim", None)
        head_size = head_size or config.hidden_size // config.num_attention_heads
        periods = rope["rope_theta"] ** (torch.arange(0, head_size, 2).float() / head_size)
        max_positions: int = config.max_position_embeddings
        make = partial(cls, max_positions=max_positions, angles=angles, rounding=rounding)
        if not all(0 < one < math.inf for one in periods.tolist()):
            raise UnsupportedError(f"rope_theta must be a number above 0, got {rope['rope_theta']}")
        if kind == "default":
            return make((1 / periods)[None])
        switch: int = rope["original_max_position_embeddings"]
        if not 1 < switch <= max_positions:
            raise UnsupportedError(
                "original_max_position_embeddings must be in (1, max_position_embeddings], "
                f"(1, {max_positions}], got {switch}"
            )
        factors = torch.tensor([rope["short_factor"], rope["long_factor"]], dtype=torch.float32)
        if not all(0 < one < math.inf for one in factors.flatten().tolist()):
            raise UnsupportedError("short_factor and long_factor must be numbers above 0")
        # By how much longer sequences became.
        scale = math.sqrt(1 + math.log(max_positions / switch) / math.log(switch))
        return make(1 / (factors * periods), switch=switch, scale=scale)

    def regime(self, num_positions: int) -> int:
        """Return the regime of a sequence of so many positions."""
        return int(self.switch is not None and num_positions > self.switch)

    def position_ids(self, start: int, num_positions: int, *, regime: int) -> Tensor:
        """Return int64 (1, S), what `forward` takes for S positions from `start` on."""
        return torch.arange(start, start + num_positions)[None] + regime * self.max_positions

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin, (B, S, d) each, in dtype and on the device of x."""
        regimes = position_ids // self.max_positions
        positions = position_ids % self.max_positions
        past_switch = (regimes == 0) & (positions >= (self.switch or self.max_positions))
        if (past_switch | (regimes >= len(self._frequencies))).any():
            raise ValueError(
                f"position_ids must be those of RotaryTables.position_ids, of {self.max_positions} "
                f"positions with the switch {self.switch}, got up to {int(position_ids.max())}"
            )
        frequencies = self._frequencies.to(x.device)[regimes]
        cos, sin = self._compute(positions[..., None], frequencies)
        return torch.cat((cos, cos), -1).to(x.dtype), torch.cat((sin, sin), -1).to(x.dtype)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return cos and sin of each position, float32 (rows, d/2), for an engine's look-up.

        `switch` rows of regime 0, then C of regime 1; where there is one regime, its C.
        """
        rows = [self.max_positions] if self.switch is None else [self.switch, self.max_positions]
        of_regimes = [
            self._compute(torch.arange(number)[:, None], frequencies)
            for number, frequencies in zip(rows, self._frequencies, strict=True)
        ]
        cos, sin = (torch.cat(one) for one in zip(*of_regimes, strict=True))
        return cos, sin

    def _compute(self, positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin in float32, of (..., 1) and (..., d/2) or (d/2,)."""
        angles = positions.to(self._angles) * frequencies.to(self._angles)
        cos, sin = (
            (one.float() * self._scale).to(self._rounding).float()
            for one in (angles.cos(), angles.sin())
        )
        return cos, sin

"""The generation stage with ONNX Runtime: a front, a table, and a decoder with past and present.

Shape letters: S new positions, T positions with them, C positions there is room for, H decoder
width, H_kv key and value heads, d head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from groundserve import extras
from groundserve.engines.manifest import ROTARY_SWITCH_KEY
from groundserve.errors import EngineMismatchError
from python_backend.arrays import Array, to_host
from python_backend.generate.base import check_token_ids
from python_backend.interruption import run_session
from python_backend.onnx_session import open_session

if TYPE_CHECKING:
    import onnxruntime

_EMBEDDINGS, _MASK, _LOGITS = "inputs_embeds", "attention_mask", "logits"
_POSITIONS = "position_ids"
_PAST, _PRESENT = "past_key_values.", "present."


class OnnxRuntimeFront:
    """Runs `front.onnx`, which makes a video's block, beside `token_embeddings.npy`.

    The table is mapped: a prompt reads few rows.
    """

    def __init__(self, graph: Path, table: Path, *, num_threads: int) -> None:
        """Open `front.onnx`, which takes FEATURES and the family's inputs, and the table (V, H)."""
        self._session = open_session(graph, num_threads=num_threads)
        self._names = [one.name for one in self._session.get_inputs()]
        (block,) = self._session.get_outputs()
        width = block.shape[-1]
        try:
            self._table: NDArray[np.float32] = np.load(table, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise EngineMismatchError(
                f"{table.name} is no array; rebuild the engine directory"
            ) from error
        if self._table.dtype != np.float32 or self._table.shape[1:] != (width,):
            raise EngineMismatchError(
                f"{table.name} must be float32 (V, {width}), as wide as what {graph.name} "
                f"gives, got {self._table.dtype} {self._table.shape}; rebuild the engine directory"
            )

    def embed_video(
        self, features: Array, inputs: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Return the video's block, (N, H)."""
        arrays = [to_host(one).astype(np.float32, copy=False) for one in (features, *inputs)]
        block: NDArray[np.float32]
        feeds = dict(zip(self._names, arrays, strict=True))
        (block,) = run_session(self._session.run, None, feeds)
        return block

    def embed_text(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (S, H), rows of the table."""
        check_token_ids(token_ids, len(self._table))
        return np.asarray(self._table[token_ids])


class OnnxRuntimeDecoder:
    """Runs `decoder/model.onnx`, in whose past new keys and values are written in place."""

    def __init__(self, path: Path, *, num_threads: int) -> None:
        """Open a graph of `export_decoder`; EngineMismatchError where it is another kind."""
        self._session = open_session(path, num_threads=num_threads)
        shapes = {one.name: one.shape for one in self._session.get_inputs()}
        # Of each input of the past (1, H_kv, C, d), C open.
        self._past_shapes = {
            name: (shape[1], shape[3]) for name, shape in shapes.items() if name.startswith(_PAST)
        }
        switch = self._session.get_modelmeta().custom_metadata_map.get(ROTARY_SWITCH_KEY)
        self._switch = None if switch is None else int(switch)
        # Graphs of families with positions of their own take them without a switch, too.
        self._takes_positions = _POSITIONS in shapes
        wanted = [_EMBEDDINGS, _MASK]
        if self._takes_positions or switch is not None:
            wanted.append(_POSITIONS)
        if not self._past_shapes or shapes.keys() != {*wanted, *self._past_shapes}:
            raise EngineMismatchError(
                f"{path.name} must take {', '.join(wanted)} and {_PAST}*, it takes "
                f"{', '.join(shapes)}; rebuild the engine directory"
            )

    def regime(self, num_positions: int) -> int:
        """Return the regime of sequences of so many positions."""
        return int(self._switch is not None and num_positions > self._switch)

    def begin(self, max_positions: int) -> OnnxRuntimePast:
        """Return a past without a position."""
        return OnnxRuntimePast(self._past_shapes, max_positions)

    def extend(
        self,
        embeddings: Array,
        past: OnnxRuntimePast,
        *,
        regime: int,
        position_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Compute further positions, of whose last the logits are returned."""
        num_positions = past.num_positions + len(embeddings)
        binding = self._session.io_binding()
        binding.bind_cpu_input(_EMBEDDINGS, np.ascontiguousarray(to_host(embeddings)[None]))
        binding.bind_cpu_input(_MASK, np.ones((1, num_positions), np.int64))
        if self._takes_positions:
            counted = np.arange(past.num_positions, num_positions)[None]
            positions = counted if position_ids is None else position_ids
            binding.bind_cpu_input(_POSITIONS, positions + regime * (self._switch or 0))
        for name, value in past.values.items():
            binding.bind_ortvalue_input(name, value)
            # The same memory: the operator sees it and only writes what is new.
            binding.bind_ortvalue_output(_PRESENT + name.removeprefix(_PAST), value)
        binding.bind_output(_LOGITS)
        run = self._session.run_with_iobinding
        # A token's pass is short, and a thread that watches it would cost as much.
        run_session(run, binding) if len(embeddings) > 1 else run(binding)
        past.num_positions = num_positions
        # (1, S or 1, V): the head may be computed for all positions.
        logits: NDArray[np.float32] = binding.get_outputs()[-1].numpy()[0, -1]
        return logits


class OnnxRuntimePast:
    """Keys and values of the positions so far, in memory that was set aside for all of them."""

    def __init__(self, shapes: Mapping[str, tuple[int, int]], max_positions: int) -> None:
        """Set aside C positions of (H_kv, d) each; memory is given when it is written to."""
        self.num_positions = 0
        self.values: dict[str, onnxruntime.OrtValue] = {
            name: extras.onnxruntime.OrtValue.ortvalue_from_numpy(
                np.empty((1, num_heads, max_positions, head_size), np.float32)
            )
            for name, (num_heads, head_size) in shapes.items()
        }

    def crop(self, num_positions: int) -> None:
        """Forget all but the first, so that others can follow them."""
        assert num_positions <= self.num_positions, "what is not there cannot stay"
        self.num_positions = num_positions

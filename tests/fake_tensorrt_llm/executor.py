"""Triton's `tensorrtllm` backend: a request against the model's config, then the engine's answer.

Knows what its authors read in `triton_backend/inflight_batcher_llm/src/utils.cc` c8c6df0 and
`cpp/include/tensorrt_llm/batch_manager/llmRequest.h`. The "engine" is the converted checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from tests.trtllm_llama import ConvertedLlama

FACTS = json.loads(Path(__file__).with_name("backend.json").read_text("utf-8"))
_TYPES = {
    "int32": DataType.TYPE_INT32,
    "uint64": DataType.TYPE_UINT64,
    "float32": DataType.TYPE_FP32,
    "float16": DataType.TYPE_FP16,
    "bfloat16": DataType.TYPE_BF16,
}


class FakeExecutor:
    """Answers one request at a time, greedily."""

    def __init__(self, config: str, directory: Path, *, pads: bool = False) -> None:
        """Read the config as the server does.

        Args:
            config: Text of config.pbtxt.
            directory: Of the converted checkpoint.
            pads: Answer as long as asked for, end tokens behind the end, as older backends did.
        """
        self.config = text_format.Parse(config, ModelConfig())
        self._llama = ConvertedLlama(directory)
        self._pads = pads
        # Keys of the blocks that are kept: of each position its id and its extra id.
        self.kept: list[tuple[tuple[int, int], ...]] = []
        self.reused = 0

    def execute(self, request: Mapping[str, Any]) -> dict[str, NDArray[np.int32]]:
        """Return the outputs of one request."""
        self._check_tensors(request)
        one = {name: value[0] for name, value in request.items()}
        table = torch.as_tensor(one["prompt_embedding_table"]).float()
        ids, extra_ids = one["input_ids"], one["prompt_table_extra_ids"]
        assert one["input_lengths"].item() == len(ids)
        assert one["prompt_vocab_size"].item() == len(table)
        assert table.shape[1] == self._llama.config["hidden_size"]
        # The backend drops extra ids of another length, and refuses a table without them.
        assert len(extra_ids) == len(ids), "Input token extra ids must be provided"
        max_new_tokens, end_id = one["request_output_len"].item(), one["end_id"].item()
        assert one["runtime_top_k"].item() == 1, "this double picks the likeliest"
        self._keep(tuple(zip(ids.tolist(), extra_ids.tolist(), strict=True)))
        answer = self._llama.greedy(
            torch.from_numpy(ids).long(), table, max_new_tokens=max_new_tokens, end_id=end_id
        )
        if self._pads:
            answer += [end_id] * (max_new_tokens - len(answer))
        return {
            "output_ids": np.array([[answer]], np.int32),
            "sequence_length": np.array([[len(answer)]], np.int32),
        }

    def _keep(self, key: tuple[tuple[int, int], ...]) -> None:
        """Count the leading positions that an earlier request has, too."""
        shared = [
            len(list(takewhile(lambda pair: pair[0] == pair[1], zip(key, old, strict=False))))
            for old in self.kept
        ]
        self.reused = max(shared, default=0)
        self.kept.append(key)

    def _check_tensors(self, request: Mapping[str, Any]) -> None:
        declared = {one.name: one for one in self.config.input}
        assert set(request) <= set(declared), "unexpected inference input"
        missing = {name for name, one in declared.items() if not one.optional} - set(request)
        assert not missing, f"expected inputs {missing}"
        for name, value in request.items():
            dtype = str(value.dtype).removeprefix("torch.")
            assert declared[name].data_type == _TYPES[dtype], (name, dtype)
            dims = [1, *declared[name].dims]
            assert len(value.shape) == len(dims), name
            for size, dim in zip(value.shape, dims, strict=True):
                assert dim in (-1, size), name

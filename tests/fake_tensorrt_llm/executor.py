"""Triton's `tensorrtllm` backend: a request against the model's config, then the engine's answer.

Knows what its authors read; file and commit of each stand in `backend.json`. The "engine" is the
converted checkpoint.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile
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
    "bool": DataType.TYPE_BOOL,
    "int32": DataType.TYPE_INT32,
    "uint64": DataType.TYPE_UINT64,
    "float32": DataType.TYPE_FP32,
    "float16": DataType.TYPE_FP16,
    "bfloat16": DataType.TYPE_BF16,
}


class FakeExecutor:
    """Answers greedily, a token a part; several requests may be under way."""

    def __init__(self, config: str, directory: Path, *, pads: bool = False) -> None:
        """Read the config as the server does.

        Args:
            config: Text of config.pbtxt.
            directory: Of the converted checkpoint, or of what the double of `trtllm-build` makes.
            pads: Answer as long as asked for, end tokens behind the end, as older backends did.
        """
        self.config = text_format.Parse(config, ModelConfig())
        self._llama = _open(directory)
        self._pads = pads
        # Ids of requests that were told to stop.
        self._stopped: set[str] = set()
        # Keys of the blocks that are kept: of each position its id and its extra id.
        self.kept: list[tuple[tuple[int, int], ...]] = []
        self.reused: list[int] = []
        """Of each request the leading positions that an earlier one has, too."""

    def execute(
        self, request: Mapping[str, Any], *, request_id: str = ""
    ) -> Iterator[dict[str, NDArray[np.int32]]]:
        """Yield the outputs of each part; those of `stop` are none."""
        self._check_tensors(request)
        if "stop" in request:
            assert request["stop"].item()
            assert request_id, "Trying to stop a request but request ID is not provided"
            # One that is over, or has not come yet, is passed over.
            self._stopped.add(request_id)
            return
        assert self.config.model_transaction_policy.decoupled, "Streaming is only supported if"
        assert request["streaming"].item(), "our requests have their answers streamed"
        one = {name: value[0] for name, value in request.items()}
        table = torch.as_tensor(one["prompt_embedding_table"]).float()
        ids, extra_ids = one["input_ids"], one["prompt_table_extra_ids"]
        assert one["input_lengths"].item() == len(ids)
        assert one["prompt_vocab_size"].item() == len(table)
        assert table.shape[1] == self._llama.config["hidden_size"]
        # The backend drops extra ids of another length, and refuses a table without them.
        assert len(extra_ids) == len(ids), "Input token extra ids must be provided"
        assert one["runtime_top_k"].item() == 1, "this double picks the likeliest"
        max_new_tokens, end_id = one["request_output_len"].item(), one["end_id"].item()
        self._keep(tuple(zip(ids.tolist(), extra_ids.tolist(), strict=True)))
        tokens = self._llama.tokens(torch.from_numpy(ids).long(), table)
        for number, token_id in enumerate(islice(tokens, max_new_tokens)):
            if request_id in self._stopped:
                break
            if token_id == end_id:
                yield _part([end_id] * (max_new_tokens - number) if self._pads else [])
                return
            yield _part([token_id])

    def _keep(self, key: tuple[tuple[int, int], ...]) -> None:
        """Count the leading positions that an earlier request has, too."""
        shared = [
            len(list(takewhile(lambda pair: pair[0] == pair[1], zip(key, old, strict=False))))
            for old in self.kept
        ]
        self.reused.append(max(shared, default=0))
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


def _part(token_ids: list[int]) -> dict[str, NDArray[np.int32]]:
    return {
        "output_ids": np.array(token_ids, np.int32).reshape(1, 1, -1),
        "sequence_length": np.array([[len(token_ids)]], np.int32),
    }


def _open(directory: Path) -> ConvertedLlama:
    engine = directory / "rank0.engine"
    if not engine.is_file():
        return ConvertedLlama(directory)
    built = pickle.loads(engine.read_bytes())
    return ConvertedLlama.of(built["pretrained"], built["weights"])

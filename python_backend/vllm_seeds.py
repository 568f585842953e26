"""Draws with a seed on a CPU, where a prompt that takes several passes ended vLLM 0.32.

In each pass but a prompt's last it draws a token in vain, and then has the request's generator go
back, which a CPU's refuses: the worker ends, and the engine with it. Here nothing is drawn with the
generator in such a pass, so that a draw does not depend on the number of passes either.

Source: `vllm/v1/worker/gpu_model_runner.py`, `_bookkeeping_sync`. Imported by vLLM alone, in its
environment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

_sample_tokens = CPUModelRunner.sample_tokens


def keep_generators() -> None:
    """Have vLLM's runner on a CPU sample as said above; more than once does no more."""
    CPUModelRunner.sample_tokens = _sample_with_whole_prompts


def _sample_with_whole_prompts(runner: Any, grammar_output: Any) -> Any:
    batch = runner.input_batch
    unfinished = np.flatnonzero(runner.discard_request_mask.np[: batch.num_reqs]).tolist()
    hidden = {row: batch.generators.pop(row) for row in unfinished if row in batch.generators}
    try:
        return _sample_tokens(runner, grammar_output)
    finally:
        batch.generators.update(hidden)

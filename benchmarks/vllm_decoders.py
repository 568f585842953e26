"""16 callers of one decoder in vLLM, ONNX Runtime and PyTorch, without what stands before it.

    python -m benchmarks.vllm_decoders --engines DIR --out JSON

The decoder is a random Llama large enough that its products take the time; prompts are of 150
positions, answers of 32 tokens. vLLM has all callers at once, the others one after another, as
their profiles serve them. The directory, of profile `vllm`, lends its manifest.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._command import run
from benchmarks._report import write_report
from engine_build.decoder_export import export_decoder
from engine_build.vllm_export import export_for_vllm
from groundserve import AnswerOptions
from groundserve.engines.manifest import DECODER_GRAPH_NAME, DECODER_NAME, MANIFEST_NAME
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline
from python_backend.generate import Decoder, OnnxRuntimeDecoder
from python_backend.generate.torch import TorchDecoder
from python_backend.generate.vllm import VllmDecoder
from python_backend.generate.vllm_process import VllmEngine

Rows = NDArray[np.float32]
Ask = Callable[[Rows], list[int]]

_CALLERS, _POSITIONS, _TOKENS = 16, 150, 32
_CONFIG = {
    "hidden_size": 1024,
    "num_hidden_layers": 8,
    "intermediate_size": 2816,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 8000,
    "max_position_embeddings": 1024,
}


def in_turns(decoder: Decoder, table: Rows, prompt: Rows) -> list[int]:
    """Answer one prompt greedily."""
    past, rows, found = decoder.begin(len(prompt) + _TOKENS), prompt, list[int]()
    while len(found) < _TOKENS:
        found.append(int(np.argmax(decoder.extend(rows, past, regime=0))))
        rows = table[found[-1:]]
    return found


def at_vllm(decoder: VllmDecoder, prompt: Rows) -> list[int]:
    """Have vLLM answer one prompt."""
    (answer,) = decoder.complete(
        prompt[:1],
        [prompt[1:]],
        AnswerOptions(max_new_tokens=_TOKENS),
        seed=None,
        end_ids=frozenset(),
        deadline=Deadline.after(600.0),
    )
    tokens: list[int] = answer.token_ids.tolist()
    return tokens


def measure(ask: Ask, prompts: list[Rows], *, at_once: int) -> tuple[dict[str, float], Any]:
    """Return the rates of one engine, and its answers."""
    ask(prompts[0][:20])  # warms up
    started = time.perf_counter()
    ask(prompts[0][::-1].copy())
    one_seconds = time.perf_counter() - started
    with ThreadPoolExecutor(at_once) as pool:
        started = time.perf_counter()
        answers = list(pool.map(ask, prompts))
        seconds = time.perf_counter() - started
    rate = _TOKENS * len(prompts) / seconds
    rates = {"one_seconds": one_seconds, "all_seconds": seconds, "tokens_per_second": rate}
    return rates, answers


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**_CONFIG)).eval().requires_grad_(False)
    table = model.get_input_embeddings().weight.numpy()
    ids = np.random.default_rng(0).integers(3, len(table), (_CALLERS, _POSITIONS))
    prompts = [table[one] for one in ids]
    threads = available_cpus()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copyfile(args.engines / MANIFEST_NAME, place / MANIFEST_NAME)
        export_for_vllm(model, place / DECODER_NAME)
        export_decoder(model, place / "onnx", precision="fp32")
        onnx = OnnxRuntimeDecoder(place / "onnx" / DECODER_GRAPH_NAME, num_threads=threads)
        found = {
            "onnxruntime": measure(partial(in_turns, onnx, table), prompts, at_once=1),
            "torch": measure(partial(in_turns, TorchDecoder(model), table), prompts, at_once=1),
        }
        with VllmEngine.start(place) as engine:
            ask = partial(at_vllm, VllmDecoder(str(engine.socket)))
            found["vllm"] = measure(ask, prompts, at_once=_CALLERS)
    expected = found["torch"][1]
    results = {
        "parameters": model.num_parameters(),
        "callers": _CALLERS,
        **{name: rates for name, (rates, _) in found.items()},
        "same_tokens": {name: answers == expected for name, (_, answers) in found.items()},
        "load_average_at_the_end": psutil.getloadavg(),
    }
    write_report(args.out, "profile vllm: 16 callers of a larger decoder", results)


if __name__ == "__main__":
    run(main)

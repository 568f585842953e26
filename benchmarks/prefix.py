"""How much is saved by computing once what all questions on a video have in front?

    python -m benchmarks.prefix [--pairs 5] --out benchmarks/results/prefix_cpu_DATE.json

Eight questions asked together and, in turn, one by one, of decoders with random weights and with
features at hand in both: no decoding, no vision. Answers have as many tokens as they may, the same
in both, to the bit. Ratios are together over apart, of neighbours.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._command import positive, run
from benchmarks._report import write_report
from benchmarks._text_decoder import (
    Engine,
    Size,
    answer,
    describe,
    num_frames_of,
    open_onnx,
    open_torch,
    random_features,
    random_prompts,
)
from groundserve.cpus import available_cpus
from python_backend.meter import Counts

NUM_QUESTIONS = 8
QUESTION_TOKENS = 27
"""Of VTimeLLM's prompt for a moment, with a description of a dozen words."""
SIZES = {
    "4 layers x 512": Size(num_layers=4, width=512),
    "8 layers x 768": Size(num_layers=8, width=768),
}
CELLS: tuple[tuple[str, str, int, int], ...] = (
    # Decoder, engine, tokens of the prefix and of an answer. 135 is VTimeLLM's prefix; an answer
    # with a moment has some 16 tokens, one with captions hundreds.
    ("4 layers x 512", "onnxruntime", 3400, 16),
    ("4 layers x 512", "onnxruntime", 3400, 64),
    ("4 layers x 512", "onnxruntime", 1000, 16),
    ("4 layers x 512", "onnxruntime", 135, 16),
    ("4 layers x 512", "torch", 1000, 16),
    ("8 layers x 768", "onnxruntime", 1000, 16),
    ("8 layers x 768", "onnxruntime", 135, 16),
)


def measure(
    engine: Engine, size: Size, *, prefix_tokens: int, answer_tokens: int, pairs: int
) -> dict[str, Any]:
    """Compare both ways of asking, and check that they answer the same."""
    features = random_features(num_frames_of(prefix_tokens))
    prompts = random_prompts(size, num_questions=NUM_QUESTIONS, num_tokens=QUESTION_TOKENS)
    counts = {"together": Counts(), "apart": Counts()}

    def together() -> list[list[int]]:
        found = answer(
            engine, features, prompts, max_new_tokens=answer_tokens, meter=counts["together"]
        )
        return [one.token_ids.tolist() for one in found.answers]

    def apart() -> list[list[int]]:
        tokens = []
        for prompt in prompts:
            found = answer(
                engine, features, [prompt], max_new_tokens=answer_tokens, meter=counts["apart"]
            )
            tokens += [one.token_ids.tolist() for one in found.answers]
        return tokens

    ways: dict[str, Callable[[], list[list[int]]]] = {"together": together, "apart": apart}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    tokens: dict[str, list[list[int]]] = {}
    for number in range(pairs + 1):
        for name in ways if number % 2 else reversed(ways):
            wall, processor = time.perf_counter(), time.process_time()
            tokens[name] = ways[name]()
            taken = (time.perf_counter() - wall, time.process_time() - processor)
            if number:  # the first pair warms up
                times[name].append(taken)
    runs = pairs + 1
    found: dict[str, Any] = {
        "prefix_tokens": prefix_tokens,
        "answer_tokens": answer_tokens,
        "questions": NUM_QUESTIONS,
        "question_tokens": QUESTION_TOKENS,
        "pairs": pairs,
        "tokens_are_equal": tokens["together"] == tokens["apart"],
        "prefix_tokens_computed": {
            name: one["prefix_tokens"] // runs for name, one in counts.items()
        },
        "tokens_generated": {name: one["generated_tokens"] // runs for name, one in counts.items()},
    }
    for place, clock in enumerate(("wall", "processor")):
        first, second = (np.array(times[name])[:, place] for name in ways)
        p10, median, p90 = np.percentile(first / second, [10, 50, 90])
        found[f"{clock}_ratio"] = {"median": median, "p10": p10, "p90": p90}
        found[f"{clock}_seconds"] = {
            name: float(np.median(np.array(one)[:, place])) for name, one in times.items()
        }
    return found


def main() -> None:
    """Print the results as JSON, and write them where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=positive, default=5)
    parser.add_argument("--cells", type=positive, default=len(CELLS), help="only the first ones")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    num_threads = available_cpus()
    torch.set_num_threads(num_threads)
    cells: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        opened: dict[tuple[str, str], Engine] = {}
        decoders: dict[str, Any] = {}
        for name, kind, prefix_tokens, answer_tokens in CELLS[: args.cells]:
            size = SIZES[name]
            if (name, kind) not in opened:
                model = size.make()
                decoders[name] = describe(size, model)
                folder = Path(scratch) / name.replace(" ", "_")
                opened[name, kind] = (
                    open_torch(model)
                    if kind == "torch"
                    else open_onnx(model, folder, precision="fp32", num_threads=num_threads)
                )
            label = f"{name}, {kind}, {prefix_tokens:,} in front, {answer_tokens} an answer"
            cells[label] = measure(
                opened[name, kind],
                size,
                prefix_tokens=prefix_tokens,
                answer_tokens=answer_tokens,
                pairs=args.pairs,
            )
    write_report(
        args.out,
        "How much is saved by computing once what all questions on a video have in front?",
        {"threads": num_threads, "decoders": decoders, "cells": cells},
        warm_up="one pair of each cell",
        repeats=args.pairs,
    )


if __name__ == "__main__":
    run(main)

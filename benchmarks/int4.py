"""What does precision int4 of profile cpu save, and what does it cost?

    python -m benchmarks.int4 [--pairs 7] --out benchmarks/results/int4_cpu_DATE.json

A decoder of more than 100 million random weights, exported in fp32 and int4. Parity: logits of
each step of two answers, the same tokens given to all, against PyTorch in float32; beside the
engines PyTorch with the same roundings. Size: of the files. Speed: of a prompt and of a token,
interleaved. Random weights say nothing of what 4 bits cost a trained model.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._command import positive, run
from benchmarks._report import write_report
from benchmarks._text_decoder import (
    Engine,
    Size,
    begin,
    describe,
    num_frames_of,
    open_onnx,
    open_torch,
    random_features,
    random_prompts,
)
from groundserve.cpus import available_cpus
from groundserve.instructions import int8_instructions
from groundserve.profiles import Precision
from groundserve.scoring.int4_model import round_decoder
from python_backend.generate import Prefix

SIZE = Size(num_layers=10, width=1024, vocab_size=16_000)
PRECISIONS: tuple[Precision, ...] = ("fp32", "int4")
PREFIX_TOKENS = 135
LONG_PREFIX_TOKENS = 1000
QUESTION_TOKENS = 27
NUM_STEPS = 32
NUM_QUESTIONS = 2

Logits = NDArray[np.float32]


def step_logits(engine: Engine, *, forced: NDArray[np.int64] | None = None) -> Logits:
    """Return (Q, n, V), logits of each step of each answer.

    Args:
        engine: What computes them.
        forced: (Q, n), the tokens that are given; the likeliest where None.
    """
    prompts = random_prompts(SIZE, num_questions=NUM_QUESTIONS, num_tokens=QUESTION_TOKENS)
    features = random_features(num_frames_of(PREFIX_TOKENS))
    prefix = begin(engine, features, prompts[0], room=QUESTION_TOKENS + NUM_STEPS)
    rows = []
    for number, prompt in enumerate(prompts):
        steps = [prefix.follow(prompt.suffix_ids)]
        for step in range(NUM_STEPS - 1):
            token = steps[-1].argmax() if forced is None else forced[number, step]
            steps.append(prefix.extend(np.array([token], np.int64)))
        rows.append(np.stack(steps))
    return np.stack(rows)


def agreement(logits: Logits, expected: Logits) -> dict[str, float]:
    """Compare (Q, n, V) logits with those of float32.

    Returns:
        `largest` and `rms` difference as a share of the largest and of the rms logit;
        `same_token`, share of steps at which both have the same likeliest token;
        `lead`, the mean lead of the likeliest in float32, as a share of the largest logit;
        `divergence`, mean of KL(float32 || it) in nats.
    """
    difference = logits - expected
    largest_two = np.sort(expected, axis=-1)[..., -2:]
    first, second = (_log_softmax(one.astype(np.float64)) for one in (expected, logits))
    return {
        "largest": float(np.abs(difference).max() / np.abs(expected).max()),
        "rms": float(np.sqrt((difference**2).mean() / (expected**2).mean())),
        "same_token": float((logits.argmax(-1) == expected.argmax(-1)).mean()),
        "lead": float((largest_two[..., 1] - largest_two[..., 0]).mean() / np.abs(expected).max()),
        "divergence": float((np.exp(first) * (first - second)).sum(-1).mean()),
    }


def time_in_pairs(calls: dict[str, Callable[[], Any]], *, pairs: int) -> dict[str, Any]:
    """Return seconds of each, and how many times faster int4 is, wall and processor time."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(pairs + 1):
        for name in calls if number % 2 else reversed(calls):
            wall, processor = time.perf_counter(), time.process_time()
            calls[name]()
            taken = (time.perf_counter() - wall, time.process_time() - processor)
            if number:  # the first pair warms up
                times[name].append(taken)
    found: dict[str, Any] = {}
    for place, clock in enumerate(("wall", "processor")):
        seconds = {name: np.array(one)[:, place] for name, one in times.items()}
        p10, median, p90 = np.percentile(seconds["fp32"] / seconds["int4"], [10, 50, 90])
        found[f"{clock}_seconds"] = {name: float(np.median(one)) for name, one in seconds.items()}
        found[f"{clock}_times_faster"] = {"median": median, "p10": p10, "p90": p90}
    return found


def measure_speed(engines: dict[str, Engine], *, pairs: int) -> dict[str, Any]:
    """Time a prompt of two lengths, and tokens behind each."""
    found = {}
    (prompt,) = random_prompts(SIZE, num_questions=1, num_tokens=QUESTION_TOKENS)
    for length in (PREFIX_TOKENS, LONG_PREFIX_TOKENS):
        features = random_features(num_frames_of(length))
        prefixes: dict[str, Prefix] = {}

        def read(name: str, features: Any = features, prefixes: Any = prefixes) -> None:
            prefixes[name] = begin(
                engines[name], features, prompt, room=QUESTION_TOKENS + NUM_STEPS
            )
            prefixes[name].follow(prompt.suffix_ids)

        def write(name: str, prefixes: Any = prefixes) -> None:
            prefixes[name].follow(prompt.suffix_ids[:1])
            for token in range(NUM_STEPS - 1):
                prefixes[name].extend(np.array([token], np.int64))

        found[f"{length} tokens"] = {
            "prompt_tokens": length + QUESTION_TOKENS,
            "prompt": time_in_pairs({name: partial(read, name) for name in engines}, pairs=pairs),
            "tokens": NUM_STEPS,
            "each_token": time_in_pairs(
                {name: partial(write, name) for name in engines}, pairs=pairs
            ),
        }
    return found


def main() -> None:
    """Print the results as JSON, and write them where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=positive, default=7)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    num_threads = available_cpus()
    torch.set_num_threads(num_threads)
    model = SIZE.make()
    expected = step_logits(open_torch(model))
    forced = expected.argmax(-1)
    rounded = copy.deepcopy(model)
    round_decoder(rounded)
    same_roundings = step_logits(open_torch(rounded), forced=forced)
    del rounded
    parity = {"PyTorch with these roundings": agreement(same_roundings, expected)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        engines: dict[str, Engine] = {}
        for precision in PRECISIONS:
            engines[precision] = open_onnx(
                model, folder, precision=precision, num_threads=num_threads
            )
        for name, engine in engines.items():
            logits = step_logits(engine, forced=forced)
            parity[f"engine, {name}"] = agreement(logits, expected)
            if name == "int4":
                parity["the same against PyTorch with these roundings"] = agreement(
                    logits, same_roundings
                )
        num_bytes: dict[str, int] = {
            precision: sum(path.stat().st_size for path in (folder / precision).iterdir())
            for precision in PRECISIONS
        }
        results = {
            "threads": num_threads,
            "instructions": int8_instructions(),
            "decoder": describe(SIZE, model),
            "steps": NUM_QUESTIONS * NUM_STEPS,
            "parity": parity,
            "bytes": {**num_bytes, "times_smaller": num_bytes["fp32"] / num_bytes["int4"]},
            "speed": measure_speed(engines, pairs=args.pairs),
        }
    write_report(
        args.out,
        "What does int4 save, and what does it cost?",
        results,
        warm_up="one pair of each",
        repeats=args.pairs,
    )


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalised


if __name__ == "__main__":
    run(main)

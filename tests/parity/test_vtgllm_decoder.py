"""VTG-LLM's decoder behind the recorded slots and prompts: logits and greedy tokens.

Against the reference's runs `fp32`, whose tables of cos and sin are rounded to bfloat16, and
`fp32_exact_rope`, of every case: with several turns and a prompt cut on its left as well. What a
single request carries goes through the pipeline (test_vtgllm.py), and here in the second run alone.
"""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from engine_build.decoder_export import export_decoder
from groundserve.engines.manifest import DECODER_GRAPH_NAME
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.families.rotary import RotaryTables
from groundserve.families.vtgllm.checkpoint import Checkpoint
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.generate import OnnxRuntimeDecoder, Prefix, embed_prompt, generate
from python_backend.generate.torch import TorchDecoder, TorchFront
from python_backend.meter import Counts
from tests.support.reference import REPOSITORY
from tests.support.vtgllm_cases import CASES as ONE_REQUEST
from tests.support.vtgllm_cases import parts_of

VTGLLM = REPOSITORY / "tests/fixtures/vtgllm"
CASES = {
    case["name"]: case for case in json.loads((VTGLLM / "cases.json").read_text("utf-8"))["cases"]
}
STAGES = load_file(VTGLLM / "stages.safetensors")
RUNS = {"fp32": "", "fp32_exact_rope": "_exact_rope"}
"""And how the names of their logits end."""
TURNS = [
    (name, number, run)
    for name, case in CASES.items()
    for number in range(len(case["turns"]))
    for run in RUNS
    if run != "fp32" or name not in {case.name for case in ONE_REQUEST}
]
MAX_NEW_TOKENS = 40
END = frozenset({2})
TOLERANCES = {"torch": 1e-4, "onnx": 3e-4}
"""Of first-step logits, as the project holds its engines to."""


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    @cache
    def opened(config: str, edit: str | None, kind: str, run: str) -> SimpleNamespace:
        checkpoint = Checkpoint.open(VTGLLM, parts=parts_of(config))
        model = checkpoint.load_decoder()
        if edit is not None:
            assert edit == "in memory, lm_head row 2 = 4 x row 606"
            model.lm_head.weight[2] = 4 * model.lm_head.weight[606]
        if run == "fp32_exact_rope":
            model.model.rotary_emb = RotaryTables.of(model.config)
        front = checkpoint.load_front()
        decoder = TorchDecoder(model)
        if kind == "onnx":
            folder = tmp_path_factory.mktemp(config) / "decoder"
            export_decoder(model, folder, precision="fp32")
            decoder = OnnxRuntimeDecoder(folder / DECODER_GRAPH_NAME, num_threads=1)
        return SimpleNamespace(
            projection=front.projection,
            front=TorchFront(front, model.get_input_embeddings()),
            decoder=decoder,
        )

    return opened


def prefix_of(case, turn, engine) -> tuple[Prefix, np.ndarray]:
    """Return the prefix up to the video, cut where the reference cuts it, and what follows it."""
    ids = np.array(turn["input_ids"])
    (place,) = np.flatnonzero(ids == VISUAL_TOKEN_ID)
    slots = torch.from_numpy(STAGES[f"{case['name']}.slots"]).reshape(-1, 32)
    with torch.inference_mode():
        block = engine.projection(slots)
    embeddings = embed_prompt(ids[: place + 1], [block], engine.front)
    prefix = Prefix.compute(
        embeddings[turn["leading_embeddings_dropped"] :],
        room=len(ids) - place + MAX_NEW_TOKENS,
        regime=0,
        decoder=engine.decoder,
        front=engine.front,
        deadline=Deadline.after(120.0),
    )
    return prefix, ids[place + 1 :]


@pytest.mark.parametrize("kind", TOLERANCES)
@pytest.mark.parametrize(("name", "number", "run"), TURNS)
def test_logits_and_greedy_tokens_are_the_references(engines, name, number, kind, run):
    case = CASES[name]
    turn = case["turns"][number]
    engine = engines(case["config"], case.get("edit"), kind, run)
    prefix, suffix = prefix_of(case, turn, engine)
    dropped = turn["leading_embeddings_dropped"]
    assert prefix.num_positions + len(suffix) == turn["expanded_length"] - dropped
    expected = STAGES[f"{name}.turn{number}.prefill_logits{RUNS[run]}"].ravel()
    error = float(np.abs(prefix.follow(suffix) - expected).max())
    assert error <= TOLERANCES[kind]
    options = AnswerOptions(max_new_tokens=MAX_NEW_TOKENS)
    prompt = Prompt(token_ids=suffix, num_prefix=0)
    answer = generate(prefix, prompt, options, seed=None, end_ids=END, meter=Counts())
    recorded = turn["runs"][run]
    recorded = recorded.get("decode", recorded)
    gaps = recorded["top1_minus_top2"]
    sure = next((step for step, gap in enumerate(gaps) if gap < 2 * error), len(gaps))
    assert answer.token_ids[:sure].tolist() == recorded["token_ids"][:sure]
    if sure == len(gaps):
        ended = recorded["token_ids"][-1] in END
        assert answer.stop_reason == ("eos" if ended else "length")

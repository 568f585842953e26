"""VTG-LLM's Llama 2 in TensorRT-LLM's form: what it computes by itself, and a question on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine_build.trtllm.generation import GenerationLimits, generation_flags
from engine_build.trtllm.llama import convert_checkpoint
from groundserve.families import get_family
from groundserve.families.plans import VISUAL_TOKEN_ID
from groundserve.families.vtgllm.spec import VTGLLMSpec
from tests.trtllm_llama import ConvertedLlama
from tests.vtgllm_stages import CASES, TENSORS, open_config

NUM_SLOTS = 256
WHOLE = [
    name
    for name, case in CASES.items()
    if "edit" not in case and not any(turn["leading_embeddings_dropped"] for turn in case["turns"])
]
"""Those whose first prompt is neither cut nor of changed weights."""
TOLERANCE = 1e-4
"""Float32 both times, in another order of additions; as tests/parity has it."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """By configuration: what re-executes the converted files, in float32."""
    made = {}

    def convert(config):
        if config not in made:
            folder = tmp_path_factory.mktemp(config)
            convert_checkpoint(open_config(config), folder, precision="fp32")
            made[config] = ConvertedLlama(folder)
        return made[config]

    return convert


def prompt_of(name):
    """Return ids with rows of the table in the place of the video, and the table."""
    case = CASES[name]
    opened = open_config(case["config"])
    slots = TENSORS[f"{name}.slots"].reshape(-1, opened.q_former.hidden_size)
    with torch.inference_mode():
        table = opened.load_front().projection(slots)
    ids = torch.tensor(case["turns"][0]["input_ids"])
    (place,) = (ids == VISUAL_TOKEN_ID).nonzero().flatten().tolist()
    rows = opened.vocab_size + torch.arange(len(table))
    return torch.cat([ids[:place], rows, ids[place + 1 :]]), table


@pytest.mark.parametrize("name", WHOLE)
def test_the_converted_weights_compute_the_references_run_with_exact_tables(name, converted):
    ids, table = prompt_of(name)
    assert len(table) == NUM_SLOTS
    llama = converted(CASES[name]["config"])
    logits = llama.logits(ids, table).numpy()
    expected = TENSORS[f"{name}.turn0.prefill_logits_exact_rope"].numpy().ravel()
    error = float(np.abs(logits - expected).max())
    assert error < TOLERANCE
    recorded = CASES[name]["turns"][0]["runs"]["fp32_exact_rope"]
    gaps = recorded["top1_minus_top2"]
    sure = next((step for step, gap in enumerate(gaps) if gap < 2 * error), len(gaps))
    # Without a cache each token is a whole pass.
    num_tokens = min(sure, 4)
    answer = llama.greedy(ids, table, max_new_tokens=num_tokens, end_id=2)
    assert answer == recorded["token_ids"][:num_tokens]


def test_what_rounded_tables_change_is_less_than_the_references_own_bf16_does():
    """TensorRT-LLM computes exact tables: docs/tensorrt_llm.md says by how much that differs."""
    of_tables, of_bf16 = (
        {
            name: case["turns"][0]["runs"][run]["logits_max_abs_vs_fp32"]
            for name, case in CASES.items()
            if run in case["turns"][0]["runs"]
        }
        for run in ("fp32_exact_rope", "bf16_llm")
    )
    assert of_bf16
    assert all(of_tables[name] < of_bf16[name] for name in of_bf16)


def test_added_tokens_have_rows_and_fp16_keeps_what_bf16_has(tmp_path):
    opened = open_config("interpolation")
    convert_checkpoint(opened, tmp_path, precision="fp16")
    weights = load_file(tmp_path / "rank0.safetensors")
    assert len(weights["lm_head.weight"]) == opened.vocab_size
    assert len(weights["transformer.vocab_embedding.weight"]) == opened.vocab_size
    rounded = opened.load_decoder().state_dict()["lm_head.weight"]
    # Float32 of bfloat16: fp16 has three bits more, but below 2**-14 steps of 2**-24.
    difference = (weights["lm_head.weight"].float() - rounded).abs()
    assert float(difference.max()) <= 2.0**-25
    assert not difference[rounded.abs() >= 2.0**-14].any()


def test_a_prompt_table_has_the_slots_and_not_the_features():
    limits = GenerationLimits.for_model(get_family("vtgllm"), VTGLLMSpec())
    assert limits.max_seq_len == 3000
    flags = generation_flags(limits, precision="fp16")
    assert flags["max_prompt_embedding_table_size"] == NUM_SLOTS * limits.max_batch_size

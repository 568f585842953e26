"""VTimeLLM's decoder behind its recorded features and prompts: logits and greedy tokens.

Against the reference's run `fp32`, of the cases that no single request carries: with several turns,
two videos and none.
"""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from engine_build.decoder_export import (
    export_decoder,
    export_front,
    write_token_embeddings,
)
from groundserve.engines.manifest import DECODER_GRAPH_NAME
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.generate import (
    OnnxRuntimeDecoder,
    OnnxRuntimeFront,
    Prefix,
    embed_prompt,
    generate,
)
from python_backend.generate.torch import TorchDecoder, TorchFront
from python_backend.meter import Counts
from tests.support.answer_cases import CASES as ONE_REQUEST
from tests.support.reference import VTIMELLM

RECORDED = json.loads((VTIMELLM / "cases.json").read_text("utf-8"))
LOGITS = np.load(VTIMELLM / "prefill_logits_fp32.npy")
CASES = dict(zip([case["name"] for case in RECORDED["cases"]], RECORDED["cases"], strict=True))
STAGES = RECORDED["about"]["models"]
MAX_NEW_TOKENS = 32
END = frozenset({2})
TOLERANCES = {"torch": 1e-4, "onnx": 3e-4}
"""Of first-step logits, as the project holds its engines to."""


def open_checkpoint(model: str) -> Checkpoint:
    root = VTIMELLM / "checkpoints"
    adapters = [root / f"vtimellm-vicuna-tiny-{stage}" for stage in STAGES[model]]
    return Checkpoint.open(root, parts={"adapter": adapters})


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    @cache
    def opened(model: str, kind: str) -> SimpleNamespace:
        checkpoint = open_checkpoint(model)
        front, decoder = checkpoint.load_front(), checkpoint.load_decoder()
        table = decoder.get_input_embeddings()
        if kind == "torch":
            return SimpleNamespace(front=TorchFront(front, table), decoder=TorchDecoder(decoder))
        folder = tmp_path_factory.mktemp(model)
        width = checkpoint.model_spec(pad_token_id=0).feature_width
        export_front(front, folder / "front.onnx", feature_width=width)
        write_token_embeddings(table, folder / "table.npy")
        export_decoder(decoder, folder / "decoder", precision="fp32")
        graph = folder / "decoder" / DECODER_GRAPH_NAME
        return SimpleNamespace(
            front=OnnxRuntimeFront(folder / "front.onnx", folder / "table.npy", num_threads=1),
            decoder=OnnxRuntimeDecoder(graph, num_threads=1),
        )

    return opened


def prefix_of(case, engine) -> tuple[Prefix, np.ndarray]:
    """Return the prefix up to the last video, or the first token, and what follows it."""
    ids = np.array(case["input_ids"])
    (places,) = np.nonzero(ids == VISUAL_TOKEN_ID)
    split = int(places[-1]) + 1 if len(places) else 1
    features = [np.load(VTIMELLM / "features" / f"{key}.npy") for key in case["features"]]
    blocks = [engine.front.embed_video(one[:, None], ()) for one in features]
    prefix = Prefix.compute(
        embed_prompt(ids[:split], blocks, engine.front),
        room=len(ids) - split + MAX_NEW_TOKENS,
        regime=0,
        decoder=engine.decoder,
        front=engine.front,
        deadline=Deadline.after(120.0),
    )
    return prefix, ids[split:]


@pytest.mark.parametrize("kind", TOLERANCES)
@pytest.mark.parametrize("name", sorted(CASES.keys() - {case.name for case in ONE_REQUEST}))
def test_logits_and_greedy_tokens_are_the_references(engines, name, kind):
    case, recorded = CASES[name], CASES[name]["runs"]["fp32"]
    prefix, suffix = prefix_of(case, engines(case["model"], kind))
    assert prefix.num_positions + len(suffix) == case["expanded_length"]
    error = float(np.abs(prefix.follow(suffix) - LOGITS[list(CASES).index(name)]).max())
    assert error <= TOLERANCES[kind]
    options = AnswerOptions(max_new_tokens=MAX_NEW_TOKENS)
    prompt = Prompt(token_ids=suffix, num_prefix=0)
    answer = generate(prefix, prompt, options, seed=None, end_ids=END, meter=Counts())
    gaps = recorded["greedy_top2_gaps"]
    sure = next((step for step, gap in enumerate(gaps) if gap < 2 * error), len(gaps))
    assert answer.token_ids[:sure].tolist() == recorded["greedy_token_ids"][:sure]
    if sure == len(gaps):
        assert answer.stop_reason == ("eos" if recorded["stopped_by_eos"] else "length")

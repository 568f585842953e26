"""Grounded-VideoLLM's decoder behind a prompt longer than any recorded one.

Past the length from which positions are rotated otherwise, against transformers' own model.
"""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from engine_build.decoder_export import export_decoder
from groundserve.engines.manifest import DECODER_GRAPH_NAME
from groundserve.families.grounded_videollm.checkpoint import Checkpoint
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.limits import Limits
from groundserve.media._resize import resize_short_side
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.generate import Generator, OnnxRuntimeDecoder, embed_prompt, finish
from python_backend.generate.torch import TorchDecoder, TorchFront
from python_backend.meter import Counts
from tests.support.grounded_cases import PARTS, formula_frames
from tests.support.reference import REPOSITORY

GROUNDED = REPOSITORY / "tests/fixtures/grounded_videollm"
(CASE,) = (
    case
    for case in json.loads((GROUNDED / "cases.json").read_text("utf-8"))["cases"]
    if (case["name"], case["precision"]) == ("phi3.5/qa_formula", "fp32")
)
TOLERANCE = 1e-3
"""Of first-step logits, as the project holds both engines to."""
SWITCH = 4096


def frames(indices, size):
    """Return uint8 (n, S, S, 3) of the formula."""
    shown = formula_frames()[indices]
    return np.stack([resize_short_side(frame, size, Limits()) for frame in shown])


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """What runs Phi-3.5's decoder, and the features of the recorded formula's frames."""
    checkpoint = Checkpoint.open(GROUNDED, parts=PARTS["phi3.5"])
    model, vision = checkpoint.load_decoder(), checkpoint.load_vision()
    folder = tmp_path_factory.mktemp("decoder") / "exported"
    export_decoder(model, folder, precision="fp32")
    indices = np.array(CASE["items"][0]["frame_indices"])
    keys = indices[CASE["items"][0]["key_frame_positions"]]
    pixels = (frames(indices, 224).reshape(12, 8, 224, 224, 3), frames(keys, 336))
    with torch.inference_mode():
        features = vision(*map(torch.from_numpy, pixels))
    return SimpleNamespace(
        model=model,
        features=features,
        front=TorchFront(checkpoint.load_front(), model.get_input_embeddings()),
        torch=TorchDecoder(model),
        onnx=OnnxRuntimeDecoder(folder / DECODER_GRAPH_NAME, num_threads=1),
    )


@pytest.fixture(scope="module")
def long_question():
    """A question with which the prompt has more positions than the switch."""
    return np.random.default_rng(5).integers(3, 400, 800)


def test_a_prompt_past_the_switch_is_what_transformers_computes_in_one_pass(engine, long_question):
    item = CASE["items"][0]
    ids = np.array(item["input_ids"])
    (place,) = np.flatnonzero(ids == VISUAL_TOKEN_ID)
    ids = np.concatenate([ids[: place + 1], long_question])
    prompts = [
        Prompt(token_ids=ids, num_prefix=place + 1),
        Prompt(token_ids=np.array(item["input_ids"]), num_prefix=place + 1),
    ]
    theirs = copy.copy(engine.model)
    theirs.model = copy.deepcopy(engine.model.model)
    theirs.model.rotary_emb = Phi3RotaryEmbedding(engine.model.config)
    block = engine.front.embed_video(engine.features, ())
    rows = embed_prompt(ids, [block], engine.front)
    assert len(rows) > SWITCH
    wanted = []
    for _ in range(4):
        with torch.inference_mode():
            last = theirs(inputs_embeds=rows[None], use_cache=False, logits_to_keep=1).logits[0, -1]
        wanted.append(int(last.argmax()))
        gap = last.topk(2).values
        assert gap[0] - gap[1] > 2 * TOLERANCE
        rows = torch.cat([rows, engine.front.embed_text(np.array(wanted[-1:]))])
    for decoder in (engine.torch, engine.onnx):
        meter = Counts()
        found = finish(
            Generator(front=engine.front, decoder=decoder).answer(
                engine.features,
                (),
                prompts,
                AnswerOptions(max_new_tokens=4),
                end_ids=frozenset(),
                deadline=Deadline.after(120.0),
                meter=meter,
            )
        )
        long, short = (one.token_ids.tolist() for one in found.answers)
        assert long == wanted
        assert short == CASE["decode"][0]["token_ids"][:4]
        # The same prefix in each regime.
        assert found.prefix_tokens == meter["prefix_tokens"] == 2 * (place + len(block))

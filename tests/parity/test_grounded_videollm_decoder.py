"""Grounded-VideoLLM's decoders behind the recorded prompts: logits and greedy tokens.

Against the reference's runs `fp32` of every case, those of a batch, and one whose answer passes the
length from which positions are rotated otherwise; prompts past it against transformers' own.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from engine_build.decoder_export import export_decoder
from groundserve.deadline import Deadline
from groundserve.families.grounded_videollm.checkpoint import Checkpoint
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.limits import Limits
from groundserve.manifest import DECODER_GRAPH_NAME
from groundserve.media import MediaWorkers, VideoSource
from groundserve.media._resize import resize_short_side
from groundserve.options import AnswerOptions
from python_backend.generate import (
    OnnxRuntimeDecoder,
    Prefix,
    TorchDecoder,
    TorchFront,
    answer_questions,
    embed_prompt,
    finish,
    generate,
)
from python_backend.meter import Counts
from tests.support.grounded_cases import PARTS, formula_frames
from tests.support.reference import REPOSITORY

GROUNDED = REPOSITORY / "tests/fixtures/grounded_videollm"
CASES = {
    case["name"]: case
    for case in json.loads((GROUNDED / "cases.json").read_text("utf-8"))["cases"]
    if case["precision"] == "fp32"
}
ROWS = [(name, row) for name, case in CASES.items() for row in range(case["batch"])]
SHORT = {"short_50f": GROUNDED / "clips/short_50f.mp4"}
MAX_NEW_TOKENS = 32
TOLERANCE = 1e-3
"""Of first-step logits, as the project holds both engines to."""
SWITCH = 4096


@pytest.fixture(scope="module")
def frames(clips):
    """Return uint8 (n, size, size, 3) of a case's video."""
    limits = Limits()

    def of(item, indices, size):
        if item["video"] == "formula":
            shown = formula_frames()[indices]
            return np.stack([resize_short_side(frame, size, limits) for frame in shown])
        once, places = np.unique(indices, return_inverse=True)
        path = (clips | SHORT)[item["video"]]
        with (
            VideoSource.from_path(path, limits=limits) as source,
            workers.open(source, deadline=Deadline.after(120.0)) as video,
        ):
            shown = video.decode(video.cut(once), image_size=size, resize="short_side")
            return np.stack(list(shown))[places]

    with MediaWorkers(limits=limits) as workers:
        yield of


@pytest.fixture(scope="module")
def engines(tmp_path_factory, frames):
    """Of a decoder what runs it, and the features of a case's video."""

    @cache
    def opened(llm: str) -> SimpleNamespace:
        checkpoint = Checkpoint.open(GROUNDED, parts=PARTS[llm])
        model, vision = checkpoint.load_decoder(), checkpoint.load_vision()
        folder = tmp_path_factory.mktemp("decoder") / "exported"
        export_decoder(model, folder, precision="fp32")
        found = {}

        def features(item):
            if item["video"] not in found:
                indices = np.array(item["frame_indices"])
                keys = indices[item["key_frame_positions"]]
                temporal = frames(item, indices, 224).reshape(12, 8, 224, 224, 3)
                pixels = map(torch.from_numpy, (temporal, frames(item, keys, 336)))
                with torch.inference_mode():
                    found[item["video"]] = vision(*pixels)
            return found[item["video"]]

        return SimpleNamespace(
            model=model,
            features=features,
            front=TorchFront(checkpoint.load_front(), model.get_input_embeddings()),
            torch=TorchDecoder(model),
            onnx=OnnxRuntimeDecoder(folder / DECODER_GRAPH_NAME, num_threads=1),
        )

    return opened


def prefix_of(engine, decoder, item, *, regime=None) -> tuple[Prefix, np.ndarray]:
    """Return the prefix up to the video, and what follows it."""
    ids = np.array(item["input_ids"])
    (place,) = np.flatnonzero(ids == VISUAL_TOKEN_ID)
    suffix = ids[place + 1 :]
    block = engine.front.embed_video(engine.features(item), ())
    embeddings = embed_prompt(ids[: place + 1], [block], engine.front)
    prefix = Prefix.compute(
        embeddings,
        room=len(suffix) + MAX_NEW_TOKENS,
        regime=decoder.regime(len(embeddings) + len(suffix)) if regime is None else regime,
        decoder=decoder,
        front=engine.front,
        deadline=Deadline.after(120.0),
    )
    return prefix, suffix


@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize(("name", "row"), ROWS)
def test_logits_and_greedy_tokens_are_the_references(engines, name, row, kind):
    case = CASES[name]
    engine, recorded = engines(case["llm"]), case["prefill_logits"][row]
    item, decoded = case["items"][row], case["decode"][row]
    prefix, suffix = prefix_of(engine, getattr(engine, kind), item)
    length = prefix.num_positions + len(suffix)
    assert length == case["sequence_length"] - item["left_padding"]
    found = prefix.follow(suffix)
    ids, values = map(np.array, zip(*recorded["top20"], strict=True))
    error = max(
        float(np.abs(found[ids] - values).max()),
        float(np.abs(found[:8] - recorded["first8"]).max()),
    )
    assert error <= TOLERANCE
    options = AnswerOptions(max_new_tokens=MAX_NEW_TOKENS)
    end_ids = frozenset({case["eos_token_id"]})
    answer = generate(prefix, suffix, options, seed=None, end_ids=end_ids, meter=Counts())
    gaps = decoded["top1_minus_top2"][: decoded["steps"]]
    sure = next((step for step, gap in enumerate(gaps) if gap < 2 * error), len(gaps))
    assert answer.token_ids[:sure].tolist() == decoded["token_ids"][:sure]
    if sure == len(gaps):
        assert answer.stop_reason == ("eos" if decoded["ended_by_eos"] else "length")


@pytest.fixture(scope="module")
def long_question():
    """A question with which the prompt has more positions than the switch."""
    return np.random.default_rng(5).integers(3, 400, 800)


def test_a_prompt_past_the_switch_is_what_transformers_computes_in_one_pass(engines, long_question):
    item = CASES["phi3.5/qa_formula"]["items"][0]
    engine = engines("phi3.5")
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
    block = engine.front.embed_video(engine.features(item), ())
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
            answer_questions(
                engine.features(item),
                (),
                prompts,
                AnswerOptions(max_new_tokens=4),
                front=engine.front,
                decoder=decoder,
                end_ids=frozenset(),
                deadline=Deadline.after(120.0),
                meter=meter,
            )
        )
        long, short = (one.token_ids.tolist() for one in found.answers)
        assert long == wanted
        assert short == CASES["phi3.5/qa_formula"]["decode"][0]["token_ids"][:4]
        # The same prefix in each regime.
        assert found.prefix_tokens == meter["prefix_tokens"] == 2 * (place + len(block))

"""Both decoders, PyTorch's and ONNX Runtime's, behind one interface and with the same answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from engine_build.decoder_export import export_decoder, export_front, write_token_embeddings
from groundserve.deadline import Deadline
from groundserve.errors import EngineMismatchError
from groundserve.families.modules import FrontModule
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.options import AnswerOptions
from python_backend.generate import (
    OnnxRuntimeDecoder,
    OnnxRuntimeFront,
    TorchDecoder,
    TorchFront,
    answer_questions,
    finish,
)
from python_backend.meter import Counts
from tests.support.llama import WIDTH, tiny_llama
from tests.support.rounding import in_float32

FEATURE_WIDTH = 8
NUM_FRAMES = 30
PREFIX = [1, 5, 9, VISUAL_TOKEN_ID]
QUESTIONS = ([11, 12, 13], [14], [11, 12, 13, 15, 16, 17, 18])
ENGINES = ("torch", "onnx")


class Projector(FrontModule):
    """A linear layer, a row a unit."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURE_WIDTH, WIDTH)

    def forward(self, features):
        return self.linear(features.flatten(0, 1))


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.fixture(scope="module")
def projector():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Projector().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(model, projector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    export_decoder(model, folder / "decoder", precision="fp32")
    export_front(projector, folder / "front.onnx", feature_width=FEATURE_WIDTH)
    write_token_embeddings(model.get_input_embeddings(), folder / "table.npy")
    return folder


@pytest.fixture(scope="module")
def engines(model, projector, folder):
    return {
        "torch": SimpleNamespace(
            front=TorchFront(projector, model.get_input_embeddings()), decoder=TorchDecoder(model)
        ),
        "onnx": SimpleNamespace(
            front=OnnxRuntimeFront(folder / "front.onnx", folder / "table.npy", num_threads=1),
            decoder=OnnxRuntimeDecoder(folder / "decoder" / "model.onnx", num_threads=1),
        ),
    }


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(3).normal(size=(NUM_FRAMES, 1, FEATURE_WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def embeddings():
    return np.random.default_rng(4).normal(size=(40, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def exact(embeddings):
    """Logits of every position by float64, and how far float32 may be from them."""
    model = tiny_llama().double()
    model.config._attn_implementation = "eager"
    rows = torch.from_numpy(embeddings).double()[None]
    # Of the model's own, the lowest float64, a rounding could be infinite; this is as good as none.
    mask = torch.full((1, 1, 40, 40), -1e4, dtype=torch.float64).triu(1)

    def logits(rows):
        return model(inputs_embeds=rows, attention_mask=mask, use_cache=False).logits[0]

    exact, bound = in_float32(logits, rows)
    assert 0 < bound < 1e-4 * np.abs(exact).max()
    return exact, bound


def prompts(questions=QUESTIONS) -> list[Prompt]:
    return [Prompt(token_ids=np.array([*PREFIX, *q]), num_prefix=len(PREFIX)) for q in questions]


def ask(engine, features, questions=QUESTIONS, meter=None, **options):
    return finish(
        answer_questions(
            features,
            (),
            prompts(questions),
            AnswerOptions(**options),
            front=engine.front,
            decoder=engine.decoder,
            end_ids=frozenset({2}),
            deadline=Deadline.after(120.0),
            meter=meter or Counts(),
        )
    )


def extend(decoder, embeddings, lengths, *, room=64):
    """Compute in passes of these lengths; return the last logits of each, and the past."""
    past, logits, start = decoder.begin(room), [], 0
    for length in lengths:
        logits.append(decoder.extend(embeddings[start : start + length], past, regime=0))
        start += length
    return np.stack(logits), past


def home(engine: str, embeddings):
    return torch.from_numpy(embeddings) if engine == "torch" else embeddings


@pytest.mark.parametrize("lengths", [[40], [39, 1], [25, 9, 6], [1] * 40], ids=len)
@pytest.mark.parametrize("engine", ENGINES)
def test_logits_are_those_of_one_pass_however_it_is_cut(
    engines, embeddings, exact, engine, lengths
):
    logits, bound = exact
    found, past = extend(engines[engine].decoder, home(engine, embeddings), lengths)
    assert (found.dtype.name, past.num_positions) == ("float32", 40)
    assert np.abs(found - logits[np.cumsum(lengths) - 1]).max() <= bound


@pytest.mark.parametrize("engine", ENGINES)
def test_two_pasts_do_not_know_of_each_other(engines, embeddings, engine):
    decoder, rows = engines[engine].decoder, home(engine, embeddings)
    expected, _ = extend(decoder, rows, [20, 20])
    first, second = decoder.begin(40), decoder.begin(40)
    decoder.extend(rows[:20], first, regime=0)
    decoder.extend(rows[20:], second, regime=0)
    assert np.array_equal(decoder.extend(rows[20:], first, regime=0), expected[1])


@pytest.mark.parametrize("engine", ENGINES)
def test_asking_together_and_apart_gives_the_same_tokens(engines, features, engine):
    meter = Counts()
    together = ask(engines[engine], features, max_new_tokens=20, meter=meter)
    for question, answer in zip(QUESTIONS, together.answers, strict=True):
        (alone,) = ask(engines[engine], features, [question], max_new_tokens=20).answers
        assert np.array_equal(answer.token_ids, alone.token_ids)
        assert answer.stop_reason == alone.stop_reason
    assert len({tuple(answer.token_ids) for answer in together.answers}) == len(QUESTIONS)
    assert meter["prefix_tokens"] == len(PREFIX) - 1 + NUM_FRAMES
    assert meter["prompt_tokens"] == sum(map(len, QUESTIONS))


@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_tokens_are_those_of_transformers(engines, model, projector, features, engine):
    found = ask(engines[engine], features, max_new_tokens=24)
    table = model.get_input_embeddings()
    block = projector(torch.from_numpy(features))
    for question, answer in zip(QUESTIONS, found.answers, strict=True):
        parts = [table(torch.tensor(PREFIX[:-1])), block, table(torch.tensor(question))]
        expected = model.generate(
            inputs_embeds=torch.cat(parts)[None],
            attention_mask=torch.ones(1, sum(map(len, parts)), dtype=torch.int64),
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=0,
        )
        assert answer.token_ids.tolist() == expected[0].tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_requests_may_come_from_several_threads(engines, features, engine):
    def tokens(question):
        (answer,) = ask(engines[engine], features, [question], max_new_tokens=12).answers
        return answer.token_ids.tolist()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(tokens, QUESTIONS * 2)) == [tokens(q) for q in QUESTIONS * 2]


@pytest.mark.parametrize("change", ["half", "narrow", "flat"])
def test_a_table_of_another_model_is_refused(folder, tmp_path, change):
    table = np.load(folder / "table.npy")
    other = {"half": table.astype(np.float16), "narrow": table[:, 1:], "flat": table.ravel()}
    np.save(tmp_path / "table.npy", other[change])
    with pytest.raises(EngineMismatchError, match=r"must be float32 \(V, \d+\), as wide"):
        OnnxRuntimeFront(folder / "front.onnx", tmp_path / "table.npy", num_threads=1)

"""What the references of the text families recorded, through profile `vllm`.

vLLM tells log-probabilities. They differ from logits by the same number for all tokens, so two
tokens' difference is compared: each logit may be off by the bound of the other engines, a
difference by twice that.

The tests are in the order of the decoders: an engine takes long to start.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from engine_build.vllm_export import export_for_vllm
from groundserve import AnswerOptions, UnsupportedError
from groundserve.answers import StopReason
from groundserve.errors import EngineMismatchError, GroundserveError
from groundserve.families.plans import SeenVideo
from groundserve.families.rotary import RotaryTables
from groundserve.families.vtgllm.checkpoint import Checkpoint as VtgCheckpoint
from groundserve.limits import Limits
from groundserve.media._resize import resize_short_side
from groundserve.runtime.deadline import Deadline
from groundserve.scoring.gate import check_engines
from python_backend.answers import Prompts, Room
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.engine import EngineDirectory
from python_backend.generate import Generator, embed_prompt
from python_backend.generate.vllm import VllmDecoder
from python_backend.generate.vllm_process import SOCKET_VARIABLE, VllmEngine
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline
from tests.support import answer_cases, grounded_cases, vtgllm_cases
from tests.support.engines import shared_engines
from tests.support.reference import VTGLLM, VTIMELLM
from tests.support.vllm_engines import OneEngine, metric

SECONDS = 600.0
LOGIT_ERROR = {"vtimellm": 3e-4, "vtgllm": 3e-4, "grounded_videollm": 1e-3}
"""As the other engines are held to."""
EIGHT = [f"Which frames show the number {number}?" for number in range(8)]
BLOCK = 128
"""Positions that vLLM's cache keeps together on a CPU."""
TURNS = json.loads((VTIMELLM / "cases.json").read_text("utf-8"))["cases"]
TURN_LOGITS = np.load(VTIMELLM / "prefill_logits_fp32.npy")
VTG_TURNS = json.loads((VTGLLM / "cases.json").read_text("utf-8"))["cases"]
VTG_STAGES = load_file(VTGLLM / "stages.safetensors")
VTG_CONFIGS = ("interpolation", "base", "no_real_time", "no_time_token", "text_input")
"""Of which the first three have one decoder."""
VTG_ONE_REQUEST = {case.name for case in vtgllm_cases.CASES}


def vtimellm(model):
    parts = answer_cases.MODELS[model]
    return shared_engines(answer_cases.CHECKPOINTS, profile="vllm", parts=parts)


def vtgllm(config):
    return shared_engines(VTGLLM, profile="vllm", parts=vtgllm_cases.parts_of(config))


def grounded(model):
    parts = grounded_cases.PARTS[model]
    return shared_engines(grounded_cases.WEIGHTS, profile="vllm", parts=parts)


@pytest.fixture(scope="module")
def one_engine():
    one = OneEngine()
    yield one
    one.close()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    config = CacheConfig(directory=tmp_path_factory.mktemp("cache"))
    return FeatureCache(config, meter=Counts())


@pytest.fixture
def opened(one_engine, monkeypatch, cache) -> Iterator[Pipeline]:
    """Open an engine directory beside its engine."""
    pipelines = []

    def make(engine_dir: Path, **options) -> Pipeline:
        monkeypatch.setenv(SOCKET_VARIABLE, str(one_engine.socket(engine_dir)))
        pipelines.append(Pipeline.open(engine_dir, cache=cache, **options))
        return pipelines[-1]

    yield make
    for pipeline in pipelines:
        pipeline.close()


def log_probabilities(generator: Generator, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return generator.decoder.extend(rows, generator.decoder.begin(len(rows)), regime=0)


def rows_of(pipeline: Pipeline, features, seen: SeenVideo, query: str, options: AnswerOptions):
    """Return (S, H), the whole prompt."""
    head = pipeline.head
    (prompt,) = head.parse([query], options).of(seen)
    arrays = head.family.front_arrays(seen, head.model)
    front = head.generator.front
    return embed_prompt(prompt.token_ids, [front.embed_video(features, arrays)], front)


def difference(logprobs: Sequence[float], logits: Sequence[float]) -> float:
    """Return by how much two tokens are off from each other at most."""
    return float(np.ptp(np.asarray(logprobs, np.float64) - np.asarray(logits, np.float64)))


def check_tokens(
    token_ids: Sequence[int],
    stop_reason: StopReason,
    recorded: Sequence[int],
    gaps: Sequence[float],
    error: float,
    *,
    ended: bool,
) -> None:
    """Compare tokens up to where two contenders lie closer than they are off."""
    sure = next((step for step, gap in enumerate(gaps) if gap < error), len(gaps))
    assert sure > 0
    assert list(token_ids[:sure]) == list(recorded[:sure])
    if sure == len(gaps):
        assert len(token_ids) == len(recorded)
        assert stop_reason == ("eos" if ended else "length")


def complete(pipeline: Pipeline, rows: NDArray[np.float32], *, max_new_tokens: int, end: int = 2):
    """Answer a prompt that no request carries."""
    (answer,) = pipeline.head.generator.decoder.complete(
        rows[:1],
        [rows[1:]],
        AnswerOptions(max_new_tokens=max_new_tokens),
        seed=None,
        end_ids=frozenset({end}),
        deadline=Deadline.after(SECONDS),
    )
    return answer


@pytest.mark.parametrize(
    "case",
    [case for case in TURNS if case["name"] not in {one.name for one in answer_cases.CASES}],
    ids=lambda case: case["name"],
)
def test_prompts_of_vtimellm_that_no_request_carries(opened, case):
    """With several turns, two videos and none."""
    pipeline = opened(vtimellm(case["model"]))
    front = pipeline.head.generator.front
    features = [np.load(VTIMELLM / "features" / f"{key}.npy") for key in case["features"]]
    blocks = [front.embed_video(one[:, None], ()) for one in features]
    rows = embed_prompt(np.array(case["input_ids"]), blocks, front)
    assert len(rows) == case["expanded_length"]
    found = log_probabilities(pipeline.head.generator, rows)
    error = difference(found, TURN_LOGITS[TURNS.index(case)])
    assert error <= 2 * LOGIT_ERROR["vtimellm"]
    recorded = case["runs"]["fp32"]
    answer = complete(pipeline, rows, max_new_tokens=32)
    check_tokens(
        answer.token_ids.tolist(),
        answer.stop_reason,
        recorded["greedy_token_ids"],
        recorded["greedy_top2_gaps"],
        error,
        ended=recorded["stopped_by_eos"],
    )


def test_the_gate_behind_a_build_passes_a_good_one_and_no_other_decoder(opened):
    engine_dir, parts = vtimellm("stage3"), answer_cases.MODELS
    opened(engine_dir)
    report = check_engines(engine_dir, answer_cases.CHECKPOINTS, parts=parts["stage3"])
    assert [check.output for check in report.checks] == ["features", "next_logits", "next_tokens"]
    # float32 against float32: far below the bound.
    assert all(check.error < 1e-4 for check in report.checks)
    with pytest.raises(EngineMismatchError, match="the decoder's engine differs from PyTorch"):
        check_engines(engine_dir, answer_cases.CHECKPOINTS, parts=parts["stage2"])


def test_eight_questions_have_one_vision_pass_and_one_prefix(opened, one_engine, clips, tmp_path):
    meter = Counts()
    pipeline = opened(vtimellm("stage3"), meter=meter)
    socket = one_engine.engine.socket
    before = metric(socket, "vllm:prefix_cache_hits_total")
    # Another part of the video than in other tests, so that nothing of it is in vLLM's cache.
    options = AnswerOptions(task="chat", max_new_tokens=6, clip_seconds=(0.5, 3.0))
    result = pipeline.ask(clips["carphone_pristine"], EIGHT, options)
    assert meter["vision_frames"] == 100  # of one pass
    num_prefix = result.generation.prefix_tokens
    assert meter["prefix_tokens"] == num_prefix >= BLOCK
    hits = metric(socket, "vllm:prefix_cache_hits_total") - before
    assert hits == 7 * (num_prefix // BLOCK * BLOCK)
    for query, together in zip(EIGHT, result.answers, strict=True):
        (alone,) = pipeline.ask(clips["carphone_pristine"], query, options).answers
        assert alone.token_ids.tolist() == together.token_ids.tolist()
    assert metric(socket, "vllm:num_requests_running") == 0


def test_draws_repeat_with_the_seed_that_an_answer_names(opened, clips):
    pipeline, drawn = opened(vtimellm("stage3")), {"task": "chat", "temperature": 2.0}
    options = AnswerOptions(**drawn, max_new_tokens=12, top_p=0.9)
    first = pipeline.ask(clips["carphone_pristine"], "What is it?", options)
    seed = first.generation.seed
    again = AnswerOptions(**drawn, max_new_tokens=12, top_p=0.9, seed=seed)
    second = pipeline.ask(clips["carphone_pristine"], "What is it?", again)
    assert second.answers[0].token_ids.tolist() == first.answers[0].token_ids.tolist()
    assert len(set(first.answers[0].token_ids.tolist())) > 1


def test_embeddings_of_another_width_are_refused_and_end_nothing(opened):
    pipeline = opened(vtimellm("stage3"))
    with pytest.raises(GroundserveError, match="hidden_size 63 does not match"):
        complete(pipeline, np.zeros((8, 63), np.float32), max_new_tokens=2)
    assert len(complete(pipeline, np.ones((8, 64), np.float32), max_new_tokens=2).token_ids) > 0


@pytest.mark.parametrize("case", answer_cases.CASES, ids=lambda case: case.name)
def test_vtimellm(opened, clips, case):
    pipeline, bound = opened(vtimellm(case.model)), 2 * LOGIT_ERROR["vtimellm"]
    (number,) = [i for i, one in enumerate(TURNS) if one["name"] == case.name]
    video = case.path(clips)
    extracted = pipeline.features(video, case.options, deadline=Deadline.after(SECONDS))
    rows = rows_of(pipeline, extracted.features, extracted.seen, case.query, case.options)
    found = log_probabilities(pipeline.head.generator, rows)
    assert difference(found, TURN_LOGITS[number]) <= bound
    (answer,) = pipeline.ask(video, case.query, case.options).answers
    assert min(TURNS[number]["runs"]["fp32"]["greedy_top2_gaps"]) > bound
    assert answer.prompt_token_ids.tolist() == case.input_ids
    assert answer.token_ids.tolist() == case.token_ids
    assert answer.text == case.text
    assert answer.stop_reason == ("eos" if case.stopped_by_eos else "length")


@pytest.mark.parametrize(
    ("case", "number"),
    [
        pytest.param(case, number, id=f"{case['name']}-{number}")
        for case in VTG_TURNS
        # One more case edits the head of a decoder in memory: no directory has it.
        if case["name"] not in VTG_ONE_REQUEST and not case.get("edit")
        for number in range(len(case["turns"]))
    ],
)
def test_prompts_of_vtgllm_that_no_request_carries(opened, case, number):
    """With several turns, cut on the left, and of frames that are no file."""
    pipeline, turn = opened(vtgllm(case["config"])), case["turns"][number]
    front = pipeline.head.generator.front
    checkpoint = VtgCheckpoint.open(VTGLLM, parts=vtgllm_cases.parts_of(case["config"]))
    slots = torch.from_numpy(VTG_STAGES[f"{case['name']}.slots"]).reshape(-1, 32)
    with torch.inference_mode():
        block = checkpoint.load_front().projection(slots).numpy()
    rows = embed_prompt(np.array(turn["input_ids"]), [block], front)
    rows = rows[turn["leading_embeddings_dropped"] :]
    logits = VTG_STAGES[f"{case['name']}.turn{number}.prefill_logits"].ravel()
    error = difference(log_probabilities(pipeline.head.generator, rows), logits)
    assert error <= 2 * LOGIT_ERROR["vtgllm"]
    recorded = turn["runs"]["fp32"]["decode"]
    answer = complete(pipeline, rows, max_new_tokens=vtgllm_cases.MAX_NEW_TOKENS)
    check_tokens(
        answer.token_ids.tolist(),
        answer.stop_reason,
        recorded["token_ids"],
        recorded["top1_minus_top2"],
        error,
        ended=recorded["token_ids"][-1] == 2,
    )


@pytest.mark.parametrize(
    "case",
    sorted(vtgllm_cases.CASES, key=lambda case: -len(case.config)),
    ids=lambda case: case.name,
)
def test_vtgllm(opened, clips, case):
    pipeline, bound = opened(vtgllm(case.config)), 2 * LOGIT_ERROR["vtgllm"]
    video = case.path(clips)
    extracted = pipeline.features(video, case.options, deadline=Deadline.after(SECONDS))
    rows = rows_of(pipeline, extracted.features, extracted.seen, case.query, case.options)
    error = difference(log_probabilities(pipeline.head.generator, rows), case.first_logits)
    assert error <= bound
    (answer,) = pipeline.ask(video, case.query, case.options).answers
    assert min(case.gaps) > error
    assert answer.prompt_token_ids.tolist() == case.input_ids
    assert answer.token_ids.tolist() == case.token_ids
    assert answer.text == case.text
    assert answer.stop_reason == ("eos" if case.stopped_by_eos else "length")


@pytest.mark.parametrize(
    "case",
    sorted([*grounded_cases.CASES, *grounded_cases.FORMULA_CASES], key=lambda case: case.model),
    ids=lambda case: case.name,
)
def test_grounded_videollm(opened, clips, case):
    pipeline, bound = opened(grounded(case.model)), 2 * LOGIT_ERROR["grounded_videollm"]
    if case in grounded_cases.FORMULA_CASES:
        features, seen = formula_features(pipeline), formula_seen(pipeline, case)
    else:
        extracted = pipeline.features(
            case.path(clips), case.options, deadline=Deadline.after(SECONDS)
        )
        features, seen = extracted.features, extracted.seen
    rows = rows_of(pipeline, features, seen, case.query, case.options)
    assert len(rows) == case.num_positions
    found = log_probabilities(pipeline.head.generator, rows)
    places, logits = zip(
        *enumerate(case.logits["first8"]), *map(tuple, case.logits["top20"]), strict=True
    )
    error = difference(found[list(places)], logits)
    assert error <= bound
    told = []
    answers = pipeline.head.answer(
        features,
        pipeline.head.parse([case.query], case.options),
        seen,
        deadline=Deadline.after(SECONDS),
        on_text=lambda number, text: told.append(text),
    )
    (answer,) = answers.answers
    assert answer.prompt_token_ids.tolist() == case.input_ids
    check_tokens(
        answer.token_ids.tolist(),
        answer.stop_reason,
        case.token_ids,
        case.gaps,
        error,
        ended=case.stopped_by_eos,
    )
    assert "".join(told).strip() == answer.text


def formula_features(pipeline: Pipeline):
    frames = grounded_cases.formula_frames()
    temporal, spatial = (
        np.stack([resize_short_side(frame, size, Limits()) for frame in shown])
        for shown, size in ((frames, 224), (frames[4::8], 336))
    )
    return pipeline.encoder.encode(temporal.reshape(12, 8, 224, 224, 3), spatial)


def formula_seen(pipeline: Pipeline, case) -> SeenVideo:
    return SeenVideo(
        duration_seconds=case.duration_seconds,
        num_visual_tokens=pipeline.manifest.model.max_feature_tokens,
        time_range_seconds=(0.0, case.duration_seconds),
        model_seconds=None,
    )


def test_a_prompt_that_would_be_rotated_wrongly_is_refused_before_anything_is_decoded(clips):
    """Needs no engine: a prompt past 4,096 is of the second list of frequencies from the first."""
    (crossing,) = [case for case in grounded_cases.CASES if "crosses" in case.name]
    engine = EngineDirectory.load(grounded("phi3.5"))
    assert engine.room == Room(max_tokens=8192, max_prompt_tokens=4096)
    prompts = Prompts.parse(
        [crossing.query, f"{crossing.query} {crossing.query[:60]}"],
        crossing.options,
        family=engine.manifest.text_seam,
        tokenizer=engine.open_answer_tokenizer(),
        room=engine.room,
        limits=Limits(),
    )
    seen = SeenVideo(
        duration_seconds=10.0,
        num_visual_tokens=engine.manifest.model.max_feature_tokens,
        time_range_seconds=(0.0, 10.0),
        model_seconds=None,
    )
    with pytest.raises(UnsupportedError, match=r"^QUERY\[1\] .* up to 4096 .* cpu or torch"):
        prompts.of(seen)


def decoder_with_heads_of_64(kind: str):
    """Return one in float32, its weights large enough that answers wander."""
    sizes = {
        "hidden_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 160,
        "vocab_size": 96,
        "max_position_embeddings": 1024,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(20261124)
        if kind == "phi3.5":
            frequencies = {"short_factor": [1.1] * 32, "long_factor": [2.5] * 32}
            scaling = {"type": "longrope", **frequencies}
            config = Phi3Config(**sizes, rope_scaling=scaling, original_max_position_embeddings=512)
            model = Phi3ForCausalLM(config)
            model.lm_head = torch.nn.Linear(256, 96)
        else:
            model = LlamaForCausalLM(LlamaConfig(**sizes))
        for weight in model.parameters():
            torch.nn.init.normal_(weight, mean=float(weight.ndim == 1), std=0.2)
    if kind == "vtgllm":
        model.model.rotary_emb = RotaryTables.of(model.config, rounding=torch.bfloat16)
    if kind == "phi3.5":
        model.model.rotary_emb = RotaryTables.of(model.config)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["vtimellm", "vtgllm", "phi3.5"])
def test_a_decoder_of_each_family_with_heads_that_are_not_padded(one_engine, tmp_path, kind):
    """Beside transformers, of which recorded decoders have heads of 16."""
    one_engine.close()
    model, engine_dir = decoder_with_heads_of_64(kind), tmp_path / "engines"
    ignored = shutil.ignore_patterns("decoder")
    shutil.copytree(vtimellm("stage3"), engine_dir, ignore=ignored)
    export_for_vllm(model, engine_dir / "decoder")
    assert json.loads((engine_dir / "decoder/config.json").read_text())["head_dim"] == 64
    table = model.get_input_embeddings()
    with VllmEngine.start(engine_dir) as engine:
        decoder = VllmDecoder(str(engine.socket))
        for length in (5, 300):
            ids = torch.from_numpy(np.random.default_rng(length).integers(0, 96, length))
            rows = table(ids)
            found = decoder.extend(rows, decoder.begin(length), regime=0)
            wanted, gaps, error = [], [], None
            behind = rows
            for _ in range(12):
                positions = torch.arange(len(behind))[None]
                logits = model(inputs_embeds=behind[None], position_ids=positions).logits[0, -1]
                error = difference(found, logits) if error is None else error
                best = logits.topk(2)
                wanted.append(int(best.indices[0]))
                gaps.append(float(best.values[0] - best.values[1]))
                behind = torch.cat([behind, table(best.indices[:1])])
            assert error <= 2 * 3e-4 * max(1.0, float(logits.abs().max()))
            (answer,) = decoder.complete(
                rows[:1],
                [rows[1:]],
                AnswerOptions(max_new_tokens=12),
                seed=None,
                end_ids=frozenset(),
                deadline=Deadline.after(SECONDS),
            )
            check_tokens(
                answer.token_ids.tolist(), answer.stop_reason, wanted, gaps, error, ended=False
            )

"""What the references of the text families recorded, through a server of profile `vllm`.

What no request carries is asked of the same vLLM from this process: the log-probabilities of the
first step, and prompts of several turns. They differ from logits by the same number for all tokens,
so two tokens' difference is compared: each logit may be off by the bound of the other engines, a
difference by twice that.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from engine_build.vllm_export import export_for_vllm
from groundserve import AnswerOptions, Client, UnsupportedError
from groundserve.families.plans import SeenVideo
from groundserve.families.rotary import RotaryTables
from groundserve.families.vtgllm.checkpoint import Checkpoint as VtgCheckpoint
from groundserve.limits import Limits
from groundserve.media._resize import resize_short_side
from groundserve.runtime.deadline import Deadline
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.generate import embed_prompt
from python_backend.generate.questions import Generated
from python_backend.generate.vllm import VllmDecoder
from python_backend.generate.vllm_process import SOCKET_VARIABLE, VllmEngine
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline
from tests.support import answer_cases, grounded_cases, vtgllm_cases
from tests.support.engines import shared_engines
from tests.support.reference import VTGLLM, VTIMELLM
from tests.support.vllm_engines import WAIT_SECONDS, serve_vllm
from tests.triton.answers import assert_same, url

ERRORS = {"vtimellm": 3e-4, "vtgllm": 3e-4, "grounded_videollm": 1e-3}
"""Of logits, as the other engines are held to."""
TURNS = json.loads((VTIMELLM / "cases.json").read_text("utf-8"))["cases"]
TURN_LOGITS = np.load(VTIMELLM / "prefill_logits_fp32.npy")
VTG_TURNS = json.loads((VTGLLM / "cases.json").read_text("utf-8"))["cases"]
VTG_STAGES = load_file(VTGLLM / "stages.safetensors")


class Served:
    """A server, a client of it, and a pipeline in this process that asks the same vLLM."""

    def __init__(self, client: Client, pipeline: Pipeline) -> None:
        self.client, self.pipeline = client, pipeline
        self.front = pipeline.head.generator.front
        self.decoder: VllmDecoder = pipeline.head.generator.decoder

    def check(self, case, path: Path, logits, gaps: Sequence[float], *, ended: bool) -> None:
        """Ask for a recorded case twice, the second time with its text told as it comes."""
        told: list[str] = []
        whole = self.client.ask(path, case.query, case.options)
        in_pieces = self.client.ask(
            path, case.query, case.options, on_text=lambda _, text: told.append(text)
        )
        assert_same(in_pieces, whole)
        (answer,) = whole.answers
        # Half a character at the end is not told.
        assert "".join(told).strip() == answer.text.rstrip("\ufffd")
        assert whole.frame_indices.tolist() == case.frame_indices
        assert answer.prompt_token_ids.tolist() == case.input_ids
        extracted = self.pipeline.features(
            path, case.options, deadline=Deadline.after(WAIT_SECONDS)
        )
        rows = self.rows(case, extracted.features, extracted.seen)
        error = self.first_error(rows, logits)
        if check_tokens(answer, case.token_ids, gaps, error, ended=ended):
            assert answer.text == case.text

    def check_rows(self, rows, logits, token_ids, gaps: Sequence[float], *, ended: bool) -> None:
        """Answer a prompt that no request carries."""
        error = self.first_error(rows, logits)
        end_ids = self.pipeline.head.tokenizer.end_ids
        answer = complete(self.decoder, rows, max_new_tokens=len(token_ids), end_ids=end_ids)
        check_tokens(answer, token_ids, gaps, error, ended=ended)

    def rows(self, case, features, seen: SeenVideo) -> NDArray[np.float32]:
        """Return (S, H), the whole prompt."""
        head = self.pipeline.head
        (prompt,) = head.parse([case.query], case.options).of(seen)
        arrays = head.family.front_arrays(seen, head.model)
        block = self.front.embed_video(features, arrays)
        return embed_prompt(prompt.token_ids, [block], self.front)

    def first_error(self, rows: NDArray[np.float32], logits) -> float:
        """Return by how much two tokens are off from each other at most behind a prompt.

        `logits` are those of all tokens, or (token, logit) each.
        """
        found = self.decoder.extend(rows, self.decoder.begin(len(rows)), regime=0)
        if np.ndim(logits) == 2:
            places, logits = zip(*logits, strict=True)
            found = found[np.array(places, int)]
        error = difference(found, logits)
        assert error <= 2 * ERRORS[self.pipeline.manifest.family]
        return error


@pytest.fixture
def start(tmp_path, monkeypatch) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def make(checkpoint: Path, parts) -> Served:
            server = stack.enter_context(serve_vllm(tmp_path, checkpoint, parts))
            monkeypatch.setenv(SOCKET_VARIABLE, str(server.triton.vllm.socket))
            cache = FeatureCache(CacheConfig(directory=tmp_path / "cache"), meter=Counts())
            engines = shared_engines(checkpoint, profile="vllm", parts=parts)
            pipeline = stack.enter_context(Pipeline.open(engines, cache=cache))
            client = Client(url(server.triton), timeout_seconds=WAIT_SECONDS)
            return Served(stack.enter_context(client), pipeline)

        yield make


def difference(logprobs: Sequence[float], logits: Sequence[float]) -> float:
    """Return by how much two tokens are off from each other at most."""
    return float(np.ptp(np.asarray(logprobs, np.float64) - np.asarray(logits, np.float64)))


def check_tokens(answer, recorded: Sequence[int], gaps, error: float, *, ended: bool) -> bool:
    """Compare up to where two contenders lie closer than they are off; tell whether that is all."""
    sure = next((step for step, gap in enumerate(gaps) if gap < error), len(gaps))
    assert sure > 0
    assert answer.token_ids[:sure].tolist() == list(recorded[:sure])
    if sure == len(gaps):
        assert len(answer.token_ids) == len(recorded)
        assert answer.stop_reason == ("eos" if ended else "length")
    return sure == len(gaps)


def complete(decoder: VllmDecoder, rows, *, max_new_tokens: int, end_ids=frozenset()) -> Generated:
    (answer,) = decoder.complete(
        rows[:1],
        [rows[1:]],
        AnswerOptions(max_new_tokens=max_new_tokens),
        seed=None,
        end_ids=end_ids,
        deadline=Deadline.after(WAIT_SECONDS),
    )
    return answer


@pytest.mark.parametrize("model", answer_cases.MODELS)
def test_vtimellm(start, clips, subtests, model):
    served = start(answer_cases.CHECKPOINTS, answer_cases.MODELS[model])
    asked = {case.name: case for case in answer_cases.CASES}
    for recorded, logits in zip(TURNS, TURN_LOGITS, strict=True):
        if recorded["model"] != model:
            continue
        run, case = recorded["runs"]["fp32"], asked.get(recorded["name"])
        gaps, ended = run["greedy_top2_gaps"], run["stopped_by_eos"]
        with subtests.test(recorded["name"]):
            if case is not None:
                served.check(case, case.path(clips), logits, gaps, ended=ended)
                continue
            # Several turns, two videos, none.
            features = [np.load(VTIMELLM / f"features/{key}.npy") for key in recorded["features"]]
            blocks = [served.front.embed_video(one[:, None], ()) for one in features]
            rows = embed_prompt(np.array(recorded["input_ids"]), blocks, served.front)
            served.check_rows(rows, logits, run["greedy_token_ids"], gaps, ended=ended)


@pytest.mark.parametrize("config", vtgllm_cases.CONFIGS)
def test_vtgllm(start, clips, subtests, config):
    served = start(VTGLLM, vtgllm_cases.parts_of(config))
    asked = {case.name: case for case in vtgllm_cases.CASES}
    checkpoint = VtgCheckpoint.open(VTGLLM, parts=vtgllm_cases.parts_of(config))
    projection = checkpoint.load_front().projection.requires_grad_(False)
    for recorded in VTG_TURNS:
        # One more edits the head of a decoder in memory: no directory has it.
        if recorded["config"] != config or recorded.get("edit"):
            continue
        name = recorded["name"]
        for number, turn in enumerate(recorded["turns"]):
            logits = VTG_STAGES[f"{name}.turn{number}.prefill_logits"].ravel()
            run = turn["runs"]["fp32"]["decode"]
            gaps, ended = run["top1_minus_top2"], run["ended_by_eos"]
            with subtests.test(name, turn=number):
                if name in asked:
                    case = asked[name]
                    served.check(case, case.path(clips), logits, gaps, ended=ended)
                    continue
                # Several turns, cut on the left, of frames that are no file.
                slots = torch.from_numpy(VTG_STAGES[f"{name}.slots"]).reshape(-1, 32)
                block = projection(slots).numpy()
                rows = embed_prompt(np.array(turn["input_ids"]), [block], served.front)
                rows = rows[turn["leading_embeddings_dropped"] :]
                served.check_rows(rows, logits, run["token_ids"], gaps, ended=ended)


@pytest.mark.parametrize("model", grounded_cases.PARTS)
def test_grounded_videollm(start, clips, subtests, model):
    served = start(grounded_cases.WEIGHTS, grounded_cases.PARTS[model])
    for case in [*grounded_cases.CASES, *grounded_cases.FORMULA_CASES]:
        if case.model != model:
            continue
        logits = [*enumerate(case.logits["first8"]), *case.logits["top20"]]
        with subtests.test(case.name):
            if case in grounded_cases.CASES:
                ended = case.stopped_by_eos
                served.check(case, case.path(clips), logits, case.gaps, ended=ended)
                continue
            rows = served.rows(case, formula_features(served.pipeline), formula_seen(served, case))
            assert len(rows) == case.num_positions
            served.check_rows(rows, logits, case.token_ids, case.gaps, ended=case.stopped_by_eos)
    for case in grounded_cases.CASES:
        if case.model == model and "crosses" in case.name:
            longer = f"{case.query} {case.query[:60]}"
            with pytest.raises(UnsupportedError, match=r"QUERY\[1\] .* up to 4096 .* cpu or torch"):
                served.client.ask(case.path(clips), [case.query, longer], case.options)


def formula_features(pipeline: Pipeline):
    frames = grounded_cases.formula_frames()
    temporal, spatial = (
        np.stack([resize_short_side(frame, size, Limits()) for frame in shown])
        for shown, size in ((frames, 224), (frames[4::8], 336))
    )
    return pipeline.encoder.encode(temporal.reshape(12, 8, 224, 224, 3), spatial)


def formula_seen(served: Served, case) -> SeenVideo:
    return SeenVideo(
        duration_seconds=case.duration_seconds,
        num_visual_tokens=served.pipeline.manifest.model.max_feature_tokens,
        time_range_seconds=(0.0, case.duration_seconds),
        model_seconds=None,
    )


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
    theta = {"rope_type": "default", "rope_theta": 500000.0 if kind == "llama3" else 10000.0}
    with torch.random.fork_rng():
        torch.manual_seed(20261124)
        if kind == "phi3.5":
            frequencies = {"short_factor": [1.1] * 32, "long_factor": [2.5] * 32}
            scaling = {"type": "longrope", **frequencies}
            config = Phi3Config(**sizes, rope_scaling=scaling, original_max_position_embeddings=512)
            model = Phi3ForCausalLM(config)
        else:
            model = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=theta))
        if kind in ("phi3.5", "llama3"):
            model.lm_head = torch.nn.Linear(256, 96)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, mean=float(weight.ndim == 1), std=0.2)
    roundings = {"vtgllm": {"rounding": torch.bfloat16}, "llama3": {"angles": torch.bfloat16}}
    if kind != "vtimellm":
        model.model.rotary_emb = RotaryTables.of(model.config, **roundings.get(kind, {}))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["vtimellm", "vtgllm", "phi3.5", "llama3"])
def test_a_decoder_of_each_family_with_heads_that_are_not_padded(tmp_path, kind):
    """Beside transformers, of which recorded decoders have heads of 16."""
    model, engine_dir = decoder_with_heads_of_64(kind), tmp_path / "engines"
    ignored = shutil.ignore_patterns("decoder")
    parts = answer_cases.MODELS["stage3"]
    made = shared_engines(answer_cases.CHECKPOINTS, profile="vllm", parts=parts)
    shutil.copytree(made, engine_dir, ignore=ignored)
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
            answer = complete(decoder, rows, max_new_tokens=12)
            check_tokens(answer, wanted, gaps, error, ended=False)

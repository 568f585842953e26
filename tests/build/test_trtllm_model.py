"""The TensorRT-LLM network under a double of its library, against the PyTorch model."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import torch

from engine_build.trtllm import convert
from groundserve.cli.shipped import SHIPPED_CHECKPOINT
from groundserve.modeling.checkpoint import Checkpoint
from python_backend.ground.tensorrt_llm import TensorRTLLMTokenScorer
from tests import fake_tensorrt_llm
from tests.fake_tensorrt_llm import SIGNATURES, builder, functional, layers, models, runtime
from tests.fake_tensorrt_llm.engines import LIMITS, HostGpu, write_engine
from tests.fake_tensorrt_llm.network import Network, net_guard
from tests.reference import REPOSITORY, SET_1, SET_2

MODEL_FILE = REPOSITORY / "engine_build" / "trtllm" / "model.py"
RUNTIME_FILE = REPOSITORY / "python_backend" / "ground" / "tensorrt_llm.py"
TINY = SET_1 / "videoitg-tiny"
# Sequences of one pass: 2 frames of 4 tokens and 9 of text, 1 frame of 1 token and 1 of text, ...
SHAPES = [(2, 4, 9), (1, 1, 1), (12, 4, 16)]
# float32 on both sides; the mean and the head change places, and attention adds in other orders.
FP32_TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def _library(monkeypatch):
    fake_tensorrt_llm.install(monkeypatch)
    monkeypatch.setattr(models, "MODEL_MAP", {})


def open_model(path=TINY, dtype=torch.float32):
    return Checkpoint.open(path).load_grounding(dtype=dtype)


def make_requests(model):
    """Return (features, text_ids) for each of SHAPES."""
    generator = torch.Generator().manual_seed(0)
    width, vocabulary = model.vision_hidden_size, model.decoder.config.vocab_size
    return [
        (
            torch.randn(frames, tokens, width, generator=generator),
            torch.randint(0, vocabulary, (text,), generator=generator),
        )
        for frames, tokens, text in SHAPES
    ]


def embed(model, features, text_ids):
    with torch.inference_mode():
        visual = model.projector(features).flatten(0, 1)
        return torch.cat([visual, model.decoder.embed_tokens(text_ids)])


def frame_logits(token_scores, features):
    num_frames, tokens_per_frame, _ = features.shape
    return token_scores[: num_frames * tokens_per_frame].reshape(num_frames, -1).mean(dim=1)


def largest_difference(path, engine_dir):
    """Score SHAPES in one pass; return the largest difference from the PyTorch model."""
    model = open_model(path)
    requests = make_requests(model)
    gpu = HostGpu()
    scorer = TensorRTLLMTokenScorer(engine_dir, gpu=gpu)
    scores = scorer.score([embed(model, *request) for request in requests])
    assert gpu.num_passes == 1
    with torch.inference_mode():
        differences = [
            (frame_logits(ours, request[0]) - model(*request)).abs().max().item()
            for ours, request in zip(scores, requests, strict=True)
        ]
    return max(differences)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(TINY, id="tiny"),
        pytest.param(SET_2 / "videoitg-pad-bang", id="pad_bang"),
        pytest.param(SET_2 / "videoitg-pad-endoftext", id="pad_endoftext"),
        pytest.param(SHIPPED_CHECKPOINT, id="digits"),
    ],
)
def test_packed_scores_equal_the_pytorch_models(path, tmp_path):
    engine_dir = write_engine(Checkpoint.open(path), tmp_path)
    assert largest_difference(path, engine_dir) < FP32_TOLERANCE


def test_bfloat16_engine_is_as_near_float32_as_bfloat16_pytorch(tmp_path):
    opened = Checkpoint.open(SHIPPED_CHECKPOINT)
    engine_dir = write_engine(opened, tmp_path, precision="bf16")
    scorer = TensorRTLLMTokenScorer(engine_dir, gpu=HostGpu())
    wide, narrow = opened.load_grounding(), open_model(SHIPPED_CHECKPOINT, torch.bfloat16)
    errors = {"engine": [], "pytorch": []}
    for features, text_ids in make_requests(wide):
        request = (features.bfloat16(), text_ids)
        (scores,) = scorer.score([embed(narrow, *request)])
        with torch.inference_mode():
            expected = wide(features, text_ids)
            errors["engine"] += (frame_logits(scores, features) - expected).abs().tolist()
            errors["pytorch"] += (narrow(*request) - expected).abs().tolist()
    # Seen: 0.099 and 0.086, of logits up to 3.4; both round, in other places.
    assert 0 < max(errors["engine"]) < 2 * max(errors["pytorch"])


def exchange(one, other):
    def change(weights):
        for name in [name for name in weights if one in name]:
            partner = name.replace(one, other)
            weights[name], weights[partner] = weights[partner], weights[name]

    return change


def key_rows_first(weights):
    for name in [name for name in weights if "attention.qkv" in name]:
        query, key, value = weights[name].split([64, 32, 32])
        weights[name] = torch.cat([key, query, value])


@pytest.mark.parametrize(
    "change_weights",
    [
        pytest.param(exchange("mlp.fc", "mlp.gate"), id="fc_and_gate_exchanged"),
        pytest.param(exchange("input_layernorm", "post_layernorm"), id="norms_exchanged"),
        pytest.param(key_rows_first, id="key_rows_first"),
    ],
)
def test_wrong_conversion_changes_the_scores(change_weights, tmp_path):
    engine_dir = write_engine(Checkpoint.open(TINY), tmp_path, change_weights=change_weights)
    assert largest_difference(TINY, engine_dir) > 100 * FP32_TOLERANCE


@pytest.mark.parametrize(
    "change_config",
    [
        pytest.param(lambda config: config.update(rotary_base=1e4), id="rope_base"),
        pytest.param(lambda config: config.pop("rotary_base"), id="rope_base_not_written"),
        pytest.param(lambda config: config.update(norm_epsilon=1e-2), id="norm_epsilon"),
    ],
)
def test_wrong_config_changes_the_scores(change_config, tmp_path):
    engine_dir = write_engine(Checkpoint.open(TINY), tmp_path, change_config=change_config)
    assert largest_difference(TINY, engine_dir) > 100 * FP32_TOLERANCE


def edited_model(tmp_path, old, new):
    text = MODEL_FILE.read_text("utf-8")
    assert text.count(old) == 1, old
    path = tmp_path / "edited.py"
    path.write_text(text.replace(old, new), "utf-8")
    return path


MASK = "            mask_type=AttentionMaskType.padding,"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(MASK, MASK.replace("padding", "causal"), id="causal"),
        pytest.param(MASK, MASK.replace("padding", "bidirectional"), id="bidirectional"),
        pytest.param(MASK, "", id="default_mask"),
        pytest.param("return self.ln_f(hidden_states)", "return hidden_states", id="no_final_norm"),
    ],
)
def test_wrong_network_changes_the_scores(old, new, tmp_path):
    model_file = edited_model(tmp_path, old, new)
    engine_dir = write_engine(Checkpoint.open(TINY), tmp_path, model_file=model_file)
    assert largest_difference(TINY, engine_dir) > 100 * FP32_TOLERANCE


def score_changed(scorer, sequences, index):
    """Change the last token of one sequence; return all scores before and after."""
    changed = [sequence.clone() for sequence in sequences]
    changed[index][-1] += 1
    return scorer.score(sequences), scorer.score(changed)


@pytest.mark.parametrize("index", range(len(SHAPES)))
def test_last_token_moves_its_own_first_score_and_no_other_sequence(index, tmp_path):
    model = open_model()
    sequences = [embed(model, *request) for request in make_requests(model)]
    scorer = TensorRTLLMTokenScorer(write_engine(Checkpoint.open(TINY), tmp_path), gpu=HostGpu())
    before, after = score_changed(scorer, sequences, index)
    for other in range(len(SHAPES)):
        if other == index:
            assert (before[other][0] - after[other][0]).abs() > 1e-4
        else:
            assert torch.equal(before[other], after[other])


@pytest.mark.parametrize("mask", ["causal", "bidirectional"])
def test_last_token_does_not_move_the_first_score_of_another_mask(mask, tmp_path):
    model = open_model()
    sequences = [embed(model, *request) for request in make_requests(model)]
    model_file = edited_model(tmp_path, MASK, MASK.replace("padding", mask))
    engine_dir = write_engine(Checkpoint.open(TINY), tmp_path, model_file=model_file)
    before, after = score_changed(TensorRTLLMTokenScorer(engine_dir, gpu=HostGpu()), sequences, 0)
    assert torch.equal(before[0][:-1], after[0][:-1])


def test_head_without_strict_dtype_does_not_build(tmp_path):
    model_file = edited_model(tmp_path, ", strict_dtype=True", "")
    with pytest.raises(AssertionError):
        write_engine(Checkpoint.open(TINY), tmp_path, precision="bf16", model_file=model_file)


def imported(path):
    """Return the modules that a file imports."""
    tree = ast.parse(path.read_text("utf-8"))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    plain = [node.names for node in ast.walk(tree) if isinstance(node, ast.Import)]
    return {*names, *(name.name for group in plain for name in group)}


def test_the_file_imports_nothing_of_ours():
    roots = {name.split(".")[0] for name in imported(MODEL_FILE)}
    assert roots == {"__future__", "collections", "typing", "tensorrt", "tensorrt_llm"}


def test_nothing_of_ours_imports_the_file():
    for folder in ("engine_build", "python_backend", "groundserve", "benchmarks"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            assert "engine_build.trtllm.model" not in imported(path), path


def test_importing_the_file_registers_the_class():
    model_class = builder.load_model_class(MODEL_FILE, convert.ARCHITECTURE)
    assert list(models.MODEL_MAP.items()) == [("VideoITGQwen2ForGrounding", model_class)]


SIZES = {"max_batch_size": 3, "max_input_len": 64, "max_num_tokens": 96, "opt_num_tokens": 48}
PLUGINS = {"remove_input_padding": True, "gpt_attention_plugin": "bfloat16", "context_fmha": True}


def prepare(tmp_path, *, plugins=PLUGINS, use_cache=False):
    model_class = builder.load_model_class(MODEL_FILE, convert.ARCHITECTURE)
    opened = Checkpoint.open(TINY)
    described = convert.describe_model(opened.config, precision="bf16", max_input_len=64)
    model = model_class(models.QWenConfig.from_dict(described))
    network = Network(plugins)
    with net_guard(network):
        model.prepare_inputs(**SIZES, use_cache=use_cache, max_seq_len=64)
    return network.inputs


def test_prepare_inputs_declares_packed_inputs(tmp_path):
    profiles = {
        name: (str(tensor.declared_dtype.value), *map(tensor.profile, range(3)))
        for name, tensor in prepare(tmp_path).items()
    }
    assert profiles == {
        "inputs_embeds": ("torch.bfloat16", [1, 64], [48, 64], [96, 64]),
        "context_lengths": ("torch.int32", [1], [2], [3]),
        "host_context_lengths": ("torch.int32", [1], [2], [3]),
        "host_request_types": ("torch.int32", [1], [2], [3]),
        "host_max_attention_window_sizes": ("torch.int32", [2], [2], [2]),
        "host_sink_token_length": ("torch.int32", [1], [1], [1]),
        "host_runtime_perf_knobs": ("torch.int64", [16], [16], [16]),
        "host_context_progress": ("torch.int64", [1], [1], [1]),
    }


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"use_cache": True}, id="cache"),
        *(pytest.param({"plugins": {**PLUGINS, name: False}}, id=name) for name in PLUGINS),
    ],
)
def test_prepare_inputs_refuses_other_builds(settings, tmp_path):
    with pytest.raises(ValueError, match="build with --kv_cache_type disabled"):
        prepare(tmp_path, **settings)


def test_model_refuses_several_gpus(tmp_path):
    with pytest.raises(ValueError, match="built for one GPU, got 2"):
        write_engine(
            Checkpoint.open(TINY),
            tmp_path,
            change_config=lambda config: config["mapping"].update(world_size=2),
        )


# Functions and classes of the library that each file calls.
CALLS = {
    MODEL_FILE: [
        "gpt_attention",
        "Tensor",
        "mark_output",
        "cast",
        "AttentionParams",
        "KeyValueCacheParams",
        "ColumnLinear",
        "RmsNorm",
        "GatedMLP",
        "FullAttention",
        "create_attention_const_params",
        "fill_attention_params",
    ],
    RUNTIME_FILE: ["from_serialized_engine", "set_shapes"],
}
SIGNATURE_OF = {"FullAttention": "Attention"}


def calls(path: Path, name: str) -> list[ast.Call]:
    """Return the calls of a function or method in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            if (called.attr if isinstance(called, ast.Attribute) else called.id) == name:
                found.append(node)
    return found


@pytest.mark.parametrize(
    ("path", "name"),
    [pytest.param(path, name, id=name) for path, names in CALLS.items() for name in names],
)
def test_calls_have_the_librarys_arguments(path, name):
    signature = SIGNATURES[SIGNATURE_OF.get(name, name)]
    found = calls(path, name)
    assert found
    for call in found:
        named = {keyword.arg for keyword in call.keywords}
        assert named <= {*signature["required"], *signature["optional"]}
        positional = (signature["required"] + signature["optional"])[: len(call.args)]
        assert set(signature["required"]) <= {*positional, *named}


def test_the_pass_has_the_librarys_arguments():
    (call,) = [c for c in calls(RUNTIME_FILE, "run") if len(c.args) == 3]
    assert SIGNATURES["run"]["required"] == ["inputs", "outputs", "stream"]
    assert not call.keywords


@pytest.mark.parametrize(
    ("owner", "signature"),
    [
        pytest.param("self", "Attention", id="attention"),
        pytest.param("attention_params", "AttentionParams", id="attention_params"),
        pytest.param("kv_cache_params", "KeyValueCacheParams", id="kv_cache_params"),
    ],
)
def test_attributes_that_are_read_exist_in_the_library(owner, signature):
    (attention,) = [
        node
        for node in ast.walk(ast.parse(MODEL_FILE.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and node.name == "FullAttention"
    ]
    read = {
        node.attr
        for node in ast.walk(attention)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
    }
    assert read
    assert read <= set(SIGNATURES[signature]["attributes"])


def test_prepare_inputs_takes_what_the_builder_passes():
    model_class = builder.load_model_class(MODEL_FILE, convert.ARCHITECTURE)
    parameters = inspect.signature(model_class.prepare_inputs).parameters
    required = {
        name
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert required <= set(SIGNATURES["prepare_inputs"]["optional"])
    assert any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


@pytest.mark.parametrize(
    ("double", "name"),
    [
        pytest.param(double, name, id=name)
        for name, double in {
            "gpt_attention": functional.gpt_attention,
            "Tensor": functional.Tensor,
            "cast": functional.cast,
            "mark_output": functional.Tensor.mark_output,
            "Attention": layers.Attention,
            "AttentionParams": layers.AttentionParams,
            "KeyValueCacheParams": layers.KeyValueCacheParams,
            "ColumnLinear": layers.ColumnLinear,
            "RmsNorm": layers.RmsNorm,
            "GatedMLP": layers.GatedMLP,
            "QWenConfig": models.QWenConfig,
            "from_serialized_engine": runtime.Session.from_serialized_engine,
            "set_shapes": runtime.Session.set_shapes,
            "run": runtime.Session.run,
        }.items()
    ],
)
def test_double_takes_what_the_library_takes(double, name):
    signature = SIGNATURES[name]
    parameters = [p for p in inspect.signature(double).parameters.values() if p.name != "self"]
    assert {p.name for p in parameters} <= {*signature["required"], *signature["optional"]}
    required = {p.name for p in parameters if p.default is inspect.Parameter.empty}
    assert required == set(signature["required"])


def test_limits_hold_all_shapes_in_one_pass():
    lengths = [frames * tokens + text for frames, tokens, text in SHAPES]
    assert sum(lengths) <= LIMITS.max_num_tokens
    assert max(lengths) <= LIMITS.max_input_len
    assert len(lengths) <= LIMITS.max_batch_size

"""The directory that vLLM loads: what it computes is what the decoder computes, in PyTorch.

Whether vLLM computes that is in tests/parity/test_vllm.py.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from engine_build import build
from engine_build.vllm_export import export_for_vllm
from groundserve.engines.manifest import PROMPT_LIMIT_KEY, Manifest
from groundserve.errors import UnsupportedError
from groundserve.families.rotary import RotaryTables
from groundserve.weights.checkpoint_place import SHIPPED_CHECKPOINT
from python_backend.engine import EngineDirectory
from tests.support.answer_cases import CHECKPOINTS, MODELS
from tests.support.llama import tiny_llama
from tests.support.phi import MAX_POSITIONS, SWITCH, tiny_phi

STEPS = 24


class Table(nn.Module):
    """Looks positions up, as vLLM does."""

    def __init__(self, rotation):
        super().__init__()
        self.cos, self.sin = (torch.cat((one, one), -1) for one in rotation.chunk(2, -1))

    def forward(self, x, position_ids):
        return self.cos[position_ids], self.sin[position_ids]


def read(directory):
    """Return transformers' Llama of an exported directory."""
    said = json.loads((directory / "config.json").read_text("utf-8"))
    tensors = load_file(directory / "model.safetensors")
    config = LlamaConfig(**{name: one for name, one in said.items() if name != "architectures"})
    model = LlamaForCausalLM(config)
    if said["head_bias"]:
        model.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
    model.model.rotary_emb = Table(tensors.pop("rotation"))
    model.load_state_dict(tensors)
    return model.eval(), said


def logits_of(model, rows, position_ids):
    with torch.inference_mode():
        return model(inputs_embeds=rows[None], position_ids=position_ids).logits[0]


def rows_of(model, length):
    random = torch.Generator().manual_seed(5)
    return model.get_input_embeddings()(torch.randint(0, 96, (length,), generator=random))


@pytest.mark.parametrize("kind", ["llama", "rounded", "linear"])
def test_llama_with_padded_heads(tmp_path, kind):
    model = tiny_llama()
    if kind == "rounded":
        model.model.rotary_emb = RotaryTables.of(model.config, rounding=torch.bfloat16)
    if kind == "linear":
        model.config.rope_parameters = {
            "rope_type": "linear",
            "factor": 4.0,
            "rope_theta": 10000.0,
        }
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    export_for_vllm(model, tmp_path / "decoder")
    exported, said = read(tmp_path / "decoder")
    assert (said["head_dim"], said["head_bias"], said[PROMPT_LIMIT_KEY]) == (32, False, None)
    rows, positions = rows_of(model, 200), torch.arange(200)[None]
    torch.testing.assert_close(
        logits_of(exported, rows, positions),
        logits_of(model, rows, positions),
        atol=1e-4,
        rtol=1e-5,
    )


def test_phi_is_llama_whose_answers_cross_the_switch_as_the_reference_does(tmp_path):
    model = tiny_phi()
    export_for_vllm(model, tmp_path / "decoder")
    exported, said = read(tmp_path / "decoder")
    assert (said["head_dim"], said["head_bias"], said[PROMPT_LIMIT_KEY]) == (32, True, SWITCH)
    assert said["max_position_embeddings"] == 2 * SWITCH < MAX_POSITIONS
    length = SWITCH + STEPS
    rows, counted = rows_of(model, length), torch.arange(length)[None]
    # A prompt in the first regime; what comes behind the switch is in the second.
    told = counted + (counted >= SWITCH) * MAX_POSITIONS
    torch.testing.assert_close(
        logits_of(exported, rows, counted), logits_of(model, rows, told), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("attention_bias", True, "have no attention_bias"),
        ("hidden_act", "gelu", "have hidden_act silu, got gelu"),
        ("sliding_window", 100, "attend to all 256 positions, got a window of 100"),
        ("head_dim", 300, "takes heads of at most 256, got 300"),
        (
            "rope_parameters",
            {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
            "got rope_type dynamic",
        ),
    ],
)
def test_what_vllm_would_compute_otherwise_is_refused(tmp_path, name, value, message):
    model = tiny_llama()
    setattr(model.config, name, value)
    with pytest.raises(UnsupportedError, match=message):
        export_for_vllm(model, tmp_path / "decoder")
    assert not list(tmp_path.iterdir())


def test_a_family_that_scores_frames_has_no_such_profile(tmp_path):
    with pytest.raises(UnsupportedError, match="profile vllm is for families of head text"):
        build(SHIPPED_CHECKPOINT, tmp_path / "engines", profile="vllm")


def test_a_directory_has_the_decoder_for_vllm_and_onnx_graphs_before_it(tmp_path):
    out = tmp_path / "engines"
    build(CHECKPOINTS, out, profile="vllm", parts=MODELS["stage3"])
    manifest = Manifest.load(out)
    assert (manifest.profile, manifest.device, manifest.precision) == ("vllm", "cpu", "fp32")
    assert (manifest.stages.encoder, manifest.stages.grounder) == ("onnxruntime", "vllm")
    own = {name for name in manifest.files if not name.startswith("model_repository/")}
    assert own == {
        "decoder/config.json",
        "decoder/model.safetensors",
        "front.onnx",
        "token_embeddings.npy",
        "tokenizer.json",
        "vision_encoder.onnx",
    }
    assert EngineDirectory.load(out).room.max_prompt_tokens is None


def test_on_a_gpu_pytorch_stands_before_it(tmp_path):
    """Built here, where none is; run on one it was not."""
    out = tmp_path / "engines"
    build(CHECKPOINTS, out, profile="vllm", device="cuda", parts=MODELS["stage3"])
    manifest = Manifest.load(out)
    assert (manifest.stages.encoder, manifest.stages.grounder) == ("torch", "vllm")
    folders = {name.partition("/")[0] for name in manifest.files}
    assert folders == {
        "checkpoint",
        "decoder",
        "model_repository",
        "token_embeddings.npy",
        "tokenizer.json",
    }
    assert load_file(out / "decoder/model.safetensors")["lm_head.weight"].dtype == torch.bfloat16

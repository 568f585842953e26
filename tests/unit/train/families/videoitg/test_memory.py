"""The arithmetic of memory against what autograd keeps and what is alive, at small size."""

import weakref
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.vision import VisionEncoder
from tests import published
from train.families.videoitg.memory import (
    PassSize,
    count_parameters,
    count_tower_parameters,
    gpu_bytes,
    layer_bytes_per_token,
    tower_bytes_per_frame,
)
from train.parallel import checkpoint_activations

NUM_TOKENS = 2048  # so many that parameters' own gradients are small beside the activations
# Proportions of Qwen2-7B: an inner layer of 5.3 widths, and keys of a seventh or a fourth.
CONFIG = replace(
    published.VIDEOITG,
    vocab_size=64,
    hidden_size=64,
    intermediate_size=338,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=1,
    mm_hidden_size=32,
)


class Alive(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, while they live."""

    def __init__(self, known):
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def forget(self, key, num_bytes):
        self.known.discard(key)
        self.now -= num_bytes


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return GroundingModel(CONFIG).to(torch.bfloat16).train().decoder


def new_inputs():
    shape = (1, NUM_TOKENS, CONFIG.hidden_size)
    return torch.randn(shape, dtype=torch.bfloat16, requires_grad=True)


def test_a_layer_keeps_what_is_counted(decoder):
    kept = {}
    parameters = {p.untyped_storage().data_ptr() for p in decoder.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    inputs = new_inputs()
    positions = decoder.rotary_emb(inputs, torch.arange(NUM_TOKENS)[None])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        decoder.layers[0](
            inputs, attention_mask=None, position_embeddings=positions, is_causal=False
        )
    backward = 2 * 2 * (CONFIG.intermediate_size + CONFIG.hidden_size)
    expected = NUM_TOKENS * (layer_bytes_per_token(CONFIG) - backward)
    assert sum(storage.nbytes() for storage in kept.values()) == expected


@pytest.mark.parametrize("num_layers", [1, 3])
def test_the_peak_of_a_recomputed_decoder_is_what_is_counted(decoder, num_layers):
    """Within 1%: beside it there are gradients of small parameters, and position ids."""
    config = replace(CONFIG, num_hidden_layers=num_layers)
    model = GroundingModel(config).to(torch.bfloat16).train()
    checkpoint_activations(model)
    inputs = new_inputs()
    with Alive([inputs, *model.parameters(), *model.buffers()]) as alive:
        output = model.decoder(
            inputs_embeds=inputs,
            attention_mask={"full_attention": None},
            is_causal=False,
            use_cache=False,
        ).last_hidden_state
        output.backward(torch.ones_like(output))
    size = PassSize(num_frames=0, num_visual=0, num_text=NUM_TOKENS, num_targets=0)
    counted = gpu_bytes("grounding", config, published.SO400M, num_shards=1, size=size)
    names = ("inputs of the layers", "one layer, recomputed and backward")
    expected = sum(counted[name] for name in names)
    assert alive.peak == pytest.approx(expected, rel=0.01)


def test_the_peak_of_the_tower_is_what_is_counted():
    vision = replace(
        published.SO400M,
        hidden_size=32,
        intermediate_size=120,
        num_hidden_layers=3,
        num_attention_heads=4,
    )
    model = VisionEncoder(vision, select_layer=-2).to(torch.bfloat16).eval().requires_grad_(False)
    model.config._attn_implementation = "sdpa"
    frames = torch.zeros(2, 729, vision.hidden_size, dtype=torch.bfloat16)
    with Alive([frames, *model.parameters(), *model.buffers()]) as alive:
        model.encoder(inputs_embeds=frames)
    assert alive.peak == 2 * tower_bytes_per_frame(vision)


def test_full_size_has_the_parameters_of_the_files():
    """The specification's counts, read off the reference's modules."""
    count = count_parameters("grounding", published.VIDEOITG)
    assert count.layers == 28 * 233_057_792
    assert count.others == 544_997_376 + 3_584 + 16_980_992 + 3_585
    assert count.trained == count.total
    assert count_tower_parameters(published.VIDEOITG, published.SO400M) == 397_745_440
    text = count_parameters("projector", published.VIDEOITG)
    assert text.total == count.total - 3_585 + 544_997_376
    assert text.trained == 16_980_992

"""The PyTorch stages on a GPU against the same stages on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.config import VisionConfig
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from groundserve.weights.tensors import torch_dtype
from python_backend.encode.torch import TorchEncoder
from python_backend.ground.torch import TorchGrounder
from tests.support import published
from tests.support.digits import digits_video

pytestmark = pytest.mark.needs_gpu

# (features, logits): relative errors with trained weights. On a CPU 16 bits gave 6e-3 and 1.5e-2
# (bf16), 7e-4 and 4e-3 (fp16).
TOLERANCES = {"bf16": (2e-2, 5e-2), "fp16": (3e-3, 1.5e-2), "fp32": (1e-4, 1e-3)}


SMALL = replace(
    published.VIDEOITG,
    vocab_size=97,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    mm_hidden_size=48,
)
SMALL_TOWER = VisionConfig(
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=2,
    image_size=58,
    patch_size=14,
)
GRID = 2
TEXT_IDS = np.arange(5)


def noise(model: torch.nn.Module, *, device: str) -> torch.nn.Module:
    """Give a module weights of N(0, 0.02), norms' weights about 1."""
    generator = torch.Generator(device).manual_seed(1)
    model.to(device).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        is_scale = "norm" in name and name.endswith("weight")
        parameter.normal_(float(is_scale), 0.02, generator=generator)
    return model


def relative_error(got: object, expected: object) -> float:
    got, expected = (torch.as_tensor(one).to("cpu", torch.float64) for one in (got, expected))
    return float((got - expected).norm() / expected.norm())


def best(logits: np.ndarray) -> np.ndarray:
    return np.argsort(-logits, kind="stable")[:8]


@pytest.fixture(scope="module")
def digits() -> Checkpoint:
    return Checkpoint.open(SHIPPED_CHECKPOINT)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_trained_weights_score_alike_on_gpu_and_cpu(
    digits: Checkpoint, gpu: str, precision: str
) -> None:
    tokenizer, pad_token_id = digits.load_tokenizer()
    model = digits.model_spec(pad_token_id=pad_token_id)
    frames, texts = digits_video(model.image_size)
    queries = QueryTokenizer(tokenizer, pad_token_id=pad_token_id)
    grid = grid_side(len(frames), vision_token_num=model.vision_token_num, side=model.side)
    pooling = pooling_weights(grid, side=model.side)[None]
    place = {"dtype": torch_dtype(precision), "device": gpu}
    encoder = TorchEncoder(digits.load_vision(**place), device=gpu)
    grounder = TorchGrounder(digits.load_grounding(**place), device=gpu)

    expected = TorchEncoder(digits.load_vision()).encode(frames, pooling)
    features = encoder.encode(frames, pooling)

    feature_error, logit_error = TOLERANCES[precision]
    assert isinstance(features, torch.Tensor)
    assert features.is_cuda
    assert features.dtype == (torch.float32 if precision == "fp32" else torch.float16)
    assert relative_error(features, expected) < feature_error
    reference = TorchGrounder(digits.load_grounding())
    for text in texts:
        text_ids = queries.text_ids(text)
        wanted, got = reference.ground(expected, text_ids), grounder.ground(features, text_ids)
        assert got.dtype == np.float32
        assert relative_error(got, wanted) < logit_error
        assert np.intersect1d(best(got), best(wanted)).size >= 6  # of 8
    # Attention is full: the last word of a question moves the first frame's logit.
    text_ids = queries.text_ids(texts[0])
    first = grounder.ground(features, text_ids)[0]
    text_ids[-1] = text_ids[-1] - 1 if text_ids[-1] else 1
    assert grounder.ground(features, text_ids)[0] != first


@pytest.mark.parametrize("home", ["host", "gpu"])
def test_frames_in_host_memory_and_on_the_gpu_give_the_same_bits(gpu: str, home: str) -> None:
    side = SMALL_TOWER.image_size
    frames = torch.randint(0, 256, (5, side, side, 3), dtype=torch.uint8, device=gpu)
    pooling = pooling_weights(GRID, side=SMALL_TOWER.side)[None]
    vision = noise(VisionEncoder(SMALL_TOWER, select_layer=-2), device=gpu).to(torch.bfloat16)
    encoder = TorchEncoder(vision, device=gpu)

    features = encoder.encode(frames if home == "gpu" else frames.cpu().numpy(), pooling)

    assert torch.equal(features, encoder.encode(frames, pooling))


def test_no_tensor_grows_with_the_square_of_the_tokens(gpu: str) -> None:
    # Two layers at full width; the scores of one head at 16,484 tokens alone would take 518 MiB in
    # 16 bits, those of all 28 heads 14 GiB.
    model = GroundingModel(replace(published.VIDEOITG, num_hidden_layers=2)).to(torch.bfloat16)
    grounder = TorchGrounder(noise(model, device=gpu), device=gpu)
    text_ids = np.arange(100)
    features = torch.randn(1024, 16, 1152, dtype=torch.float16, device=gpu)
    weights = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()

    frame_logits = grounder.ground(features, text_ids)

    assert np.isfinite(frame_logits).all()
    # Gate, up and their product are 0.6 GiB each.
    assert torch.cuda.max_memory_allocated() - weights < 4 * 1024**3


def test_layers_that_come_in_turn_compute_the_same_and_take_less_room(gpu: str) -> None:
    shape = (16, GRID**2, SMALL.mm_hidden_size)
    features = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    whole = TorchGrounder(noise(GroundingModel(SMALL), device="cpu"), device=gpu)
    model = noise(GroundingModel(SMALL), device="cpu")
    in_turn = TorchGrounder(model, device=gpu, in_turn=True)
    np.testing.assert_array_equal(
        in_turn.ground(features, TEXT_IDS), whole.ground(features, TEXT_IDS)
    )
    assert {one.device.type for one in model.decoder.layers.parameters()} == {"cpu"}
    assert model.head.weight.is_cuda

"""The PyTorch stages on a GPU against the same stages on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.gpu.models import random_grounding, random_request, random_vision, relative_error
from benchmarks.gpu.parity import best, digits_videos, mask_probe
from benchmarks.gpu.size import FULL, SMALL
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from groundserve.tensors import torch_dtype
from python_backend.encode import TorchEncoder
from python_backend.ground import TorchGrounder

pytestmark = pytest.mark.needs_gpu

# (features, logits): relative errors with trained weights. On a CPU 16 bits gave 6e-3 and 1.5e-2
# (bf16), 7e-4 and 4e-3 (fp16).
TOLERANCES = {"bf16": (2e-2, 5e-2), "fp16": (3e-3, 1.5e-2), "fp32": (1e-4, 1e-3)}


@pytest.fixture(scope="module")
def digits() -> Checkpoint:
    return Checkpoint.open(SHIPPED_CHECKPOINT)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_trained_weights_score_alike_on_gpu_and_cpu(
    digits: Checkpoint, gpu: str, precision: str
) -> None:
    tokenizer, pad_token_id = digits.load_tokenizer()
    model = digits.model_spec(pad_token_id=pad_token_id)
    frames, texts = digits_videos(model.image_size)[0]
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
    assert mask_probe(grounder, features, queries.text_ids(texts[0])) > 0


@pytest.mark.parametrize("home", ["host", "gpu"])
def test_frames_in_host_memory_and_on_the_gpu_give_the_same_bits(gpu: str, home: str) -> None:
    request = random_request(SMALL, 5, device=gpu)
    encoder = TorchEncoder(random_vision(SMALL, dtype=torch.bfloat16, device=gpu), device=gpu)
    frames = request.frames if home == "gpu" else request.frames.cpu().numpy()

    features = encoder.encode(frames, request.pooling[None])

    assert torch.equal(features, encoder.encode(request.frames, request.pooling[None]))


def test_no_tensor_grows_with_the_square_of_the_tokens(gpu: str) -> None:
    # Two layers at full width; the scores of one head at 16,484 tokens alone would take 518 MiB in
    # 16 bits, those of all 28 heads 14 GiB.
    model = random_grounding(FULL, dtype=torch.bfloat16, device=gpu, num_layers=2)
    grounder = TorchGrounder(model, device=gpu)
    text_ids = np.arange(FULL.num_text_tokens)
    features = torch.randn(1024, 16, 1152, dtype=torch.float16, device=gpu)
    weights = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()

    frame_logits = grounder.ground(features, text_ids)

    assert np.isfinite(frame_logits).all()
    # Gate, up and their product are 0.6 GiB each.
    assert torch.cuda.max_memory_allocated() - weights < 4 * 1024**3


def test_layers_that_come_in_turn_compute_the_same_and_take_less_room(gpu: str) -> None:
    place = {"dtype": torch.float32, "device": "cpu"}
    request = random_request(SMALL, SMALL.main_frames, device=gpu)
    grid = SMALL.grid(SMALL.main_frames)
    shape = (SMALL.main_frames, grid**2, SMALL.checkpoint.mm_hidden_size)
    features = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    whole = TorchGrounder(random_grounding(SMALL, **place), device=gpu)
    model = random_grounding(SMALL, **place)
    in_turn = TorchGrounder(model, device=gpu, in_turn=True)
    np.testing.assert_array_equal(
        in_turn.ground(features, request.text_ids), whole.ground(features, request.text_ids)
    )
    assert {one.device.type for one in model.decoder.layers.parameters()} == {"cpu"}
    assert model.head.weight.is_cuda

"""The graphs for TensorRT: their operators, and their numbers in ONNX Runtime and in PyTorch."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engine_build.families.videoitg.mixed_precision import MixedTokenScorer, MixedVisionEncoder
from engine_build.onnx_tensorrt import export_mixed_vision_encoder, export_token_scorer
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.support.digits import digits_video
from tests.support.vision import vision_inputs

MAX_TOKENS = 512
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.open(SHIPPED_CHECKPOINT)


@pytest.fixture(scope="module")
def vision(checkpoint):
    return checkpoint.load_vision()


@pytest.fixture(scope="module")
def grounding(checkpoint):
    return checkpoint.load_grounding()


@pytest.fixture(scope="module")
def video(checkpoint):
    """Twelve frames, how they are pooled, and the ids of one question."""
    config, side = checkpoint.config, checkpoint.vision_config.side
    frames, texts = digits_video(checkpoint.vision_config.image_size, num_frames=12)
    grid = grid_side(len(frames), vision_token_num=config.vision_token_num, side=side)
    pool = torch.from_numpy(pooling_weights(grid, side=side)).expand(len(frames), -1, -1)
    tokenizer, pad = checkpoint.load_tokenizer()
    text_ids = QueryTokenizer(tokenizer, pad_token_id=pad).text_ids(texts[0])
    return SimpleNamespace(
        frames=torch.from_numpy(frames), pool=pool, text_ids=torch.from_numpy(text_ids)
    )


@pytest.fixture(scope="module")
def embeds(grounding, vision, video):
    """Visual and text embeddings of one question, float32 (S, D)."""
    with torch.inference_mode():
        visual = grounding.projector(vision(video.frames, video.pool)).flatten(0, 1)
        return torch.cat([visual, grounding.decoder.embed_tokens(video.text_ids)])


@pytest.fixture(scope="module")
def expected_scores(grounding, embeds):
    """What the model scores each token of `embeds`, float32 (S,)."""
    with torch.inference_mode():
        hidden_states = grounding.decoder(
            inputs_embeds=embeds[None],
            attention_mask={"full_attention": None},
            is_causal=False,
            use_cache=False,
        ).last_hidden_state
        return grounding.head(hidden_states[0]).squeeze(1)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory, vision, grounding):
    """Export a stage once for each precision and opset."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def export(stage, precision, opset=23):
        path = folder / f"{stage}_{precision}_{opset}.onnx"
        if path not in made:
            dtype = DTYPES[precision]
            if stage == "vision":
                model = MixedVisionEncoder(vision, dtype=dtype)
                export_mixed_vision_encoder(model, path, vision_inputs(model)[0], opset=opset)
            else:
                model = MixedTokenScorer(grounding, dtype=dtype, max_tokens=MAX_TOKENS)
                export_token_scorer(model, path, opset=opset)
            made[path] = onnx.load(path, load_external_data=False)
        return path, made[path]

    return export


def relative_error(got, expected):
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("stage", "num_layers"), [("vision", 3), ("scorer", 4)])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_attention_is_one_operator_without_a_mask(graphs, stage, num_layers, precision):
    path, model = graphs(stage, precision)
    attention = [node for node in model.graph.node if node.op_type == "Attention"]
    assert len(attention) == num_layers
    for node in attention:
        assert len(node.input) == 3
        assert len(node.output) == 1
        assert {a.name: a.i for a in node.attribute}.get("is_causal", 0) == 0
    types = Counter(node.op_type for node in model.graph.node)
    # What TensorRT 10.14's parser does not know, and what would hold S x S numbers.
    assert not types.keys() & {"RMSNormalization", "RotaryEmbedding", "Softmax", "SequenceAt"}
    # Without axes, as the exporter writes it, newer still.
    assert "Squeeze" not in types
    # Would repeat key-value heads, and multiply their memory.
    assert "Expand" not in types
    assert path.with_name(path.name + ".data").stat().st_size > 200_000


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_query_key_and_value_are_one_product(graphs, vision, precision):
    _, model = graphs("vision", precision)
    width, wide = vision.config.hidden_size, vision.config.intermediate_size
    num_layers = len(vision.encoder.layers)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    # A layer: query-key-value, out, up, down. Patches; pooling of rows and of columns.
    assert len(products) == 4 * num_layers + 1 + 2
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = Counter(weights[node.input[1]] for node in products if node.input[1] in weights)
    layer = Counter([(width, 3 * width), (width, width), (width, wide), (wide, width)])
    assert all(shapes[shape] == num_layers * count for shape, count in layer.items())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_of_products_are_stored_in_16_bit(graphs, precision):
    kinds = {"bf16": onnx.TensorProto.BFLOAT16, "fp16": onnx.TensorProto.FLOAT16}
    _, model = graphs("scorer", precision)
    sizes = Counter()
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2 and tensor.name not in ("cos", "sin"):
            sizes[tensor.data_type] += int(np.prod(tensor.dims))
    assert set(sizes) == {kinds[precision]}


@pytest.mark.parametrize("opset", [23, 20])
def test_the_float32_graph_of_the_scorer_equals_pytorch(graphs, embeds, expected_scores, opset):
    path, _ = graphs("scorer", "fp32", opset)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"INPUTS_EMBEDS": embeds.numpy()})
    # float32 against float32; only the order of additions differs.
    assert relative_error(scores, expected_scores.numpy()) < 1e-4


@pytest.mark.parametrize("opset", [23, 20])
def test_the_float32_graph_of_vision_equals_pytorch(graphs, vision, video, opset):
    path, _ = graphs("vision", "fp32", opset)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {"PIXELS": video.frames.numpy(), "POOL": video.pool.contiguous().numpy()}
    (features,) = session.run(None, inputs)
    with torch.inference_mode():
        expected = vision(video.frames, video.pool).numpy()
    # float32 against float32; only the order of additions differs.
    assert relative_error(features, expected) < 1e-4


def test_the_float16_graphs_run_elsewhere_too(graphs, video, vision, embeds, expected_scores):
    """ONNX Runtime has float16 on the CPU, and no bfloat16; it adds up in float16."""
    path, _ = graphs("vision", "fp16")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {"PIXELS": video.frames.numpy(), "POOL": video.pool.contiguous().numpy()}
    (features,) = session.run(None, inputs)
    with torch.inference_mode():
        expected = vision(video.frames, video.pool).numpy()
    assert features.dtype == np.float16
    assert relative_error(features, expected) < 1e-2
    path, _ = graphs("scorer", "fp16")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"INPUTS_EMBEDS": embeds.half().numpy()})
    assert scores.dtype == np.float32
    assert relative_error(scores, expected_scores.numpy()) < 4e-2


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_last_token_moves_the_first_score(grounding, embeds, precision):
    model = MixedTokenScorer(grounding, dtype=DTYPES[precision], max_tokens=MAX_TOKENS)
    changed = embeds.clone()
    changed[-1] *= -1
    with torch.inference_mode():
        first, moved = (model(one.to(model.dtype))[0] for one in (embeds, changed))
    assert abs(first - moved) > 1e-3


@pytest.mark.parametrize(
    ("precision", "vision_rms", "scorer_rms"), [("bf16", 6e-3, 6e-3), ("fp16", 8e-4, 8e-4)]
)
def test_digits_in_16_bit_stays_near_float32(
    vision, grounding, video, embeds, precision, vision_rms, scorer_rms
):
    def rms_error(got, expected):
        got, expected = got.float(), expected.float()
        return float((got - expected).square().mean().sqrt() / expected.square().mean().sqrt())

    def features(dtype):
        return MixedVisionEncoder(vision, dtype=dtype)(video.frames, video.pool)

    def logits(dtype):
        model = MixedTokenScorer(grounding, dtype=dtype, max_tokens=MAX_TOKENS)
        scores = model(embeds.to(model.dtype))[: -len(video.text_ids)]
        return scores.reshape(len(video.frames), -1).mean(dim=1)

    with torch.inference_mode():
        for of, most in ((features, vision_rms), (logits, scorer_rms)):
            assert 0 < rms_error(of(DTYPES[precision]), of(torch.float32)) < most


def test_16_bit_weights_are_shared_with_the_model_they_come_from(checkpoint):
    grounding = checkpoint.load_grounding(dtype=torch.bfloat16)
    model = MixedTokenScorer(grounding, dtype=torch.bfloat16, max_tokens=8)
    ours, theirs = model.layers[0].down.weight, grounding.decoder.layers[0].mlp.down_proj.weight
    assert ours.data_ptr() == theirs.data_ptr()

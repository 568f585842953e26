"""The three models on a tiny trunk: batches, masks, and what each output sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Qwen2ForCausalLM

from groundserve.families.videoitg.config import VisionConfig
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID
from groundserve.families.videoitg.vision import VisionEncoder
from tests.support import published
from tests.support.rounding import Float64
from train.examples import IGNORE_INDEX, Example, Text
from train.families.videoitg.models import (
    AnchorModel,
    CausalModel,
    PoolingModel,
    encode_frames,
    frame_loss,
)

CONFIG = replace(
    published.VIDEOITG,
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    rope_theta=1e4,
    mm_hidden_size=12,
)
# Everything here computes in float64: what differs by the order of additions alone, on numbers of
# order 1, differs by some 1e-16 an operation.
TOLERANCE = {"rtol": 0.0, "atol": 1e-11}
MODELS = [CausalModel, PoolingModel, AnchorModel]


@pytest.fixture(autouse=True)
def float64():
    with Float64():
        yield


def make(kind, **arguments):
    """A model whose weights are large enough for tokens to move outputs."""
    torch.manual_seed(3)
    model = kind(CONFIG, **arguments).eval().double()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=1.2 / parameter.shape[1] ** 0.5)
    return model


def make_text(*words, before=(), num_frames=None):
    """A text with its placeholder behind `before`; every word is a target."""
    ids = np.array([*before, IMAGE_TOKEN_ID, *words], np.int64)
    targets = np.where(ids == IMAGE_TOKEN_ID, IGNORE_INDEX, ids)
    labels = None if num_frames is None else (np.arange(num_frames) % 3 == 0).astype(np.float64)
    return Text(ids=ids, targets=targets, labels=labels)


def make_example(num_frames, grid, *texts, seed=0):
    """An example and its features (T, P, D_v)."""
    frames = np.zeros((num_frames, 4, 4, 3), np.uint8)
    example = Example(frames=frames, tokens_per_frame=grid**2, texts=texts)
    generator = torch.Generator().manual_seed(seed)
    shape = (num_frames, grid * grid, CONFIG.mm_hidden_size)
    return example, torch.randn(shape, generator=generator, dtype=torch.float64)


def mixed_batch():
    """Other T, grids, lengths and numbers of questions; two texts have words in front."""
    return [
        make_example(5, 2, make_text(7, 8, 9, num_frames=5), seed=1),
        make_example(
            3,
            1,
            make_text(4, before=(11, 12), num_frames=3),
            make_text(21, 22, 23, 24, 25, before=(13,), num_frames=3),
            seed=2,
        ),
        make_example(2, 3, make_text(6, 6, num_frames=2), seed=3),
    ]


def split(batch):
    """The same sequences, each in an example of its own."""
    return [
        (replace(example, texts=(text,)), features)
        for example, features in batch
        for text in example.texts
    ]


def run(model, batch):
    examples, features = zip(*batch, strict=True)
    return model(examples, features)


@pytest.mark.parametrize("kind", [PoolingModel, AnchorModel])
def test_a_padded_batch_scores_like_single_sequences(kind):
    model = make(kind)
    together = run(model, mixed_batch()).frame_logits
    alone = [run(model, [single]).frame_logits[0] for single in split(mixed_batch())]
    assert [len(logits) for logits in together] == [5, 3, 3, 2]
    for batched, single in zip(together, alone, strict=True):
        torch.testing.assert_close(batched, single, **TOLERANCE)


def test_a_padded_batch_writes_like_single_sequences():
    model = make(CausalModel)
    together = run(model, mixed_batch()).loss
    singles = split(mixed_batch())
    counts = [int((e.texts[0].targets[1:] != IGNORE_INDEX).sum()) for e, _ in singles]
    losses = [run(model, [single]).loss for single in singles]
    total = sum(loss * count for loss, count in zip(losses, counts, strict=True))
    torch.testing.assert_close(together, total / sum(counts), **TOLERANCE)


def first_frame(model, last_word):
    """The first frame's tokens after the decoder, by the last word of the question."""
    example, features = make_example(4, 2, make_text(7, 8, last_word), seed=1)
    sequence = model.build_sequence(model.projector(features), example.texts[0])
    return sequence.visual(model._decode([sequence.embeds])[0])[0]


@pytest.mark.parametrize("kind", [CausalModel, AnchorModel])
def test_the_last_word_leaves_the_frames_alone_under_causal_attention(kind):
    model = make(kind)
    assert torch.equal(first_frame(model, 9), first_frame(model, 10))


def test_the_last_word_moves_every_anchor():
    model = make(AnchorModel)

    def logits(word):
        return run(model, [make_example(4, 2, make_text(7, 8, word, num_frames=4), seed=1)])

    (before,), (after,) = logits(9).frame_logits, logits(10).frame_logits
    assert ((before - after).abs() > 1e-3).all()


@pytest.mark.parametrize("num_auxiliary", [0, 2])
def test_without_labels_there_are_scores_and_no_loss(num_auxiliary):
    model = make(PoolingModel, num_auxiliary=num_auxiliary, auxiliary_weight=1.0)
    losses = run(model, [make_example(3, 1, make_text(5))])
    assert losses.loss.item() == 0
    assert losses.frame_logits[0].shape == (3,)


def test_causal_model_has_the_loss_of_transformers():
    model = make(CausalModel)
    theirs = Qwen2ForCausalLM(model.decoder.config).eval().double()
    theirs.model.load_state_dict(model.decoder.state_dict())
    theirs.lm_head.load_state_dict(model.lm_head.state_dict())
    example, features = make_example(3, 2, make_text(7, 8, 9, before=(5, 6)), seed=1)
    visual = model.projector(features)
    embeds = model.build_sequence(visual, example.texts[0]).embeds
    labels = torch.tensor([5, 6, *[IGNORE_INDEX] * 12, 7, 8, 9])
    expected = theirs(inputs_embeds=embeds[None], labels=labels[None]).loss
    torch.testing.assert_close(run(model, [(example, features)]).loss, expected, **TOLERANCE)


@pytest.mark.parametrize("kind", MODELS)
def test_auxiliary_loss_is_added_with_its_weight(kind):
    model = make(kind, num_auxiliary=4, auxiliary_weight=0.5)
    targets = np.random.default_rng(0).integers(0, 2, (3, 4)).astype(np.float64)
    example, features = make_example(3, 2, make_text(7, 8, num_frames=3))
    example = replace(example, frame_targets=targets)
    losses = run(model, [(example, features)])
    main = losses.parts["grounding" if kind is not CausalModel else "language"]
    torch.testing.assert_close(losses.loss, main + 0.5 * losses.parts["auxiliary"], **TOLERANCE)
    sequence = model.build_sequence(model.projector(features), example.texts[0])
    states = sequence.visual(model._decode([sequence.embeds])[0]).mean(dim=1)
    expected = frame_loss(model.auxiliary(states), torch.from_numpy(targets))
    torch.testing.assert_close(losses.parts["auxiliary"], expected, **TOLERANCE)


@pytest.mark.parametrize("kind", MODELS)
def test_every_parameter_gets_a_gradient(kind):
    model = make(kind, num_auxiliary=2, auxiliary_weight=1.0).train()
    batch = [(replace(e, frame_targets=np.zeros((len(e.frames), 2))), f) for e, f in mixed_batch()]
    run(model, batch).loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.fixture(scope="module")
def vision():
    torch.manual_seed(5)
    config = VisionConfig(
        hidden_size=CONFIG.mm_hidden_size,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=7,
    )
    return VisionEncoder(config, select_layer=-2).eval().requires_grad_(False).double()


def picture_example(num_frames, grid, seed):
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, 28, 28, 3), np.uint8)
    return Example(frames=frames, tokens_per_frame=grid**2, texts=(make_text(1),))


def test_encode_frames_of_mixed_grids_is_one_by_one(vision):
    examples = [
        picture_example(3, 2, 1),
        picture_example(1, 4, 2),
        picture_example(4, 2, 3),
        picture_example(2, 1, 4),
    ]
    together = encode_frames(vision, examples)
    assert [tuple(f.shape) for f in together] == [(3, 4, 12), (1, 16, 12), (4, 4, 12), (2, 1, 12)]
    for example, features in zip(examples, together, strict=True):
        torch.testing.assert_close(features, encode_frames(vision, [example])[0], **TOLERANCE)
        assert not features.requires_grad

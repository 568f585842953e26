import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from groundserve.data_record import Message
from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.checkpoint import Checkpoint
from tests.support.reference import SET_1
from train.examples import Example
from train.families.videoitg.models import CausalModel
from train.families.videoitg.samples import ConversationTokenizer

NO_PAD = -1


def messages(*texts):
    return [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]


def test_chatml_needs_its_tokens():
    tokenizer = Tokenizer(models.BPE({"a": 0, "<": 2, ">": 3, "|": 4}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(InvalidRequestError, match=r"needs '.*' to be one token"):
        ConversationTokenizer(tokenizer, template="chatml", pad_token_id=NO_PAD)
    ConversationTokenizer(tokenizer, template="plain", pad_token_id=NO_PAD)


def test_what_stands_at_the_placeholder_of_a_text_without_media_changes_nothing():
    checkpoint = Checkpoint.open(SET_1 / "videoitg-tiny")
    tokenizer, pad_token_id = checkpoint.load_tokenizer()
    conversations = ConversationTokenizer(tokenizer, template="chatml", pad_token_id=pad_token_id)
    text = conversations.text(messages("Who?", "I"), has_media=False)
    torch.manual_seed(0)
    model = CausalModel(checkpoint.config)
    frames = np.zeros((1, 1, 1, 3), np.uint8)  # not read: the features are given
    example = Example(frames=frames, tokens_per_frame=1, texts=(text,))
    losses = []
    for scale in (0.0, 100.0):
        features = torch.full((1, 1, checkpoint.config.mm_hidden_size), scale)
        result = model([example], [features])
        losses.append(result.loss.item())
    assert losses[0] == losses[1] > 0
    result.loss.backward()
    for parameter in model.projector.parameters():
        assert parameter.grad is not None  # every rank has a gradient for every parameter
        assert not parameter.grad.any()

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from groundserve.data_record import Message
from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID
from tests.reference import SET_1
from train.examples import IGNORE_INDEX, Example
from train.families.videoitg.conversations import ConversationTokenizer
from train.families.videoitg.models import CausalModel

NO_PAD = -1


def messages(*texts):
    return [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]


@pytest.fixture
def spell(tokenizer):
    """Tokenize a conversation; return its text, and its text with "·" for what is not learnt."""

    def spell(*texts, template="chatml", has_media=True, pad_token_id=NO_PAD):
        conversations = ConversationTokenizer(
            tokenizer, template=template, pad_token_id=pad_token_id
        )
        text = conversations.text(messages(*texts), has_media=has_media)
        assert text.ids.dtype == text.targets.dtype == np.int64
        learnt = text.targets != IGNORE_INDEX
        assert (text.targets[learnt] == text.ids[learnt]).all()

        def decode(i):
            if i == IMAGE_TOKEN_ID:
                return "<image>"
            return tokenizer.decode([i], skip_special_tokens=False)

        parts = [decode(int(i)) for i in text.ids]
        masked = [p if on else "·" * len(p) for p, on in zip(parts, learnt, strict=True)]
        return "".join(parts), "".join(masked)

    return spell


def test_plain_replaces_the_question_and_learns_the_answer(spell):
    assert spell("<image>\nSay it.", "A cat", template="plain") == (
        "<image>A cat\n",
        "·······A cat\n",
    )


def test_plain_tokenizes_answer_and_newline_as_one_string(spell, tokenizer):
    conversations = ConversationTokenizer(tokenizer, template="plain", pad_token_id=NO_PAD)
    text = conversations.text(messages("", "What?"), has_media=True)
    assert text.ids[1:].tolist() == tokenizer.encode("What?\n").ids


def test_plain_needs_two_messages(spell):
    with pytest.raises(InvalidRequestError, match="for the template plain, got 4"):
        spell("a", "b", "c", "d", template="plain")


def test_chatml(spell):
    text, learnt = spell("<image>\nWho is it?", "A cat", "Sure?", "Yes")
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nWho is it?<|im_end|>\n"
        "<|im_start|>assistant\nA cat<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n"
        "<|im_start|>assistant\nYes<|im_end|>\n"
    )
    # The assistant's messages with their wrappers; elsewhere newlines and the two markers.
    assert learnt == (
        "<|im_start|>······\n····························<|im_end|>\n"
        "<|im_start|>····\n·······\n··········<|im_end|>\n"
        "<|im_start|>assistant\nA cat<|im_end|>\n"
        "<|im_start|>····\n·····<|im_end|>\n"
        "<|im_start|>assistant\nYes<|im_end|>\n"
    )


def test_chatml_learns_a_newline_in_a_question_only_where_it_is_a_token(spell):
    text, learnt = spell("Is it\nWhat?\nor", "No")
    assert "<image>\nIs it\nWhat?\nor<|im_end|>" in text
    assert "·······\n·····\n········<|im_end|>" in learnt  # "?\n" is one token


@pytest.mark.parametrize(
    "question",
    ["<image>\nWho?", "Who?<image>", "Who?\n<image>", "<image>Who?", "Who?", "\nWho? <image>\n"],
)
def test_chatml_moves_the_placeholder_to_the_front(spell, question):
    assert "<|im_start|>user\n<image>\nWho?<|im_end|>" in spell(question, "I")[0]


@pytest.mark.parametrize("template", ["plain", "chatml"])
def test_several_placeholders_in_the_first_message_are_one(spell, template):
    texts = ("<image>\nWho<image>?", "I")
    assert spell(*texts, template=template) == spell("<image>\nWho?", "I", template=template)


@pytest.mark.parametrize("template", ["plain", "chatml"])
@pytest.mark.parametrize(
    ("texts", "count"), [(("a<image>", "<image>"), 1), (("a", "<image>" * 2), 2)]
)
def test_a_placeholder_in_a_later_message_fails(spell, template, texts, count):
    with pytest.raises(InvalidRequestError, match=f"in the first message only, got {count} else"):
        spell(*texts, template=template)


def test_pieces_around_the_placeholder_are_tokenized_apart(tokenizer):
    conversations = ConversationTokenizer(tokenizer, template="chatml", pad_token_id=NO_PAD)
    ids = conversations.text(messages("Who?", "I"), has_media=True).ids.tolist()
    place = ids.index(IMAGE_TOKEN_ID)
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert ids[:place] == tokenizer.encode(f"{system}<|im_start|>user\n").ids
    rest = "\nWho?<|im_end|>\n<|im_start|>assistant\nI<|im_end|>\n"
    assert ids[place + 1 :] == tokenizer.encode(rest).ids


def test_positions_with_the_padding_id_are_deleted(spell, tokenizer):
    bang = tokenizer.token_to_id("!")
    assert "\nWho<|im_end|>" in spell("Who!", "I! am!", pad_token_id=bang)[0]
    assert spell("", "I! am!", template="plain", pad_token_id=bang)[0] == "<image>I am\n"


def test_the_newlines_id_is_the_tokenizers(tokenizer):
    reference = Tokenizer.from_file(str(SET_1 / "videoitg-tiny" / "tokenizer.json"))
    for which in (tokenizer, reference):
        (newline,) = which.encode("\n").ids
        text = ConversationTokenizer(which, template="chatml", pad_token_id=NO_PAD).text(
            messages("a\nb", "c"), has_media=True
        )
        assert (text.targets[text.ids == newline] == newline).all()
    assert newline == 198


def test_chatml_needs_its_tokens():
    tokenizer = Tokenizer(models.BPE({"a": 0, "<": 2, ">": 3, "|": 4}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(InvalidRequestError, match=r"needs '.*' to be one token"):
        ConversationTokenizer(tokenizer, template="chatml", pad_token_id=NO_PAD)
    ConversationTokenizer(tokenizer, template="plain", pad_token_id=NO_PAD)


def test_a_text_without_media_keeps_its_words_and_ends_on_the_placeholder(spell):
    text, learnt = spell(" Who? ", "I", has_media=False)
    assert "<|im_start|>user\n Who? <|im_end|>" in text
    assert text.endswith("I<|im_end|>\n<image>")
    assert learnt.endswith("I<|im_end|>\n·······")
    with pytest.raises(InvalidRequestError, match="only with an image or a video, got 1"):
        spell("<image>\nWho?", "I", has_media=False)


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

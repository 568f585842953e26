import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.prompt import QueryTokenizer
from tests.support.reference import SET_2


@pytest.fixture(scope="module")
def tokenizers():
    opened = {}
    for name in ("pad-endoftext", "pad-bang"):
        tokenizer, pad = Checkpoint.open(SET_2 / f"videoitg-{name}").load_tokenizer()
        opened[name] = QueryTokenizer(tokenizer, pad_token_id=pad)
    return opened


def test_text_is_nfc_normalised(tokenizers):
    tokenizer = tokenizers["pad-endoftext"]
    assert tokenizer.input_ids("cafe\u0301") == tokenizer.input_ids("caf\u00e9")


def test_a_padding_token_of_bang_drops_every_bang(tokenizers):
    kept, dropped = tokenizers["pad-endoftext"], tokenizers["pad-bang"]
    assert dropped.pad_token_id == 0
    assert 0 in dropped.input_ids("Stop!")
    assert 0 not in dropped.text_ids("Stop!")
    assert dropped.text_ids("Stop!!").tolist() == dropped.text_ids("Stop").tolist()
    assert kept.text_ids("Stop!").tolist() != kept.text_ids("Stop").tolist()


@pytest.mark.parametrize("query", ["<image>", "what is <image> this?"])
def test_the_placeholder_is_refused(tokenizers, query):
    with pytest.raises(InvalidRequestError, match="must not contain the placeholder <image>"):
        tokenizers["pad-endoftext"].input_ids(query)

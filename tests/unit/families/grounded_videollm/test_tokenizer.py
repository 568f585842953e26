"""Grounded-VideoLLM's tokenizers, against what the reference's said of the same files."""

import pytest
from tokenizers import Tokenizer

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm.prompt import read_tokenizer
from groundserve.families.grounded_videollm.times import NEW_TOKENS
from groundserve.tokenizers.tokenizer_json import TokenWriter
from tests.unit.families.grounded_videollm.recorded import FUNCTIONS, LLMS, TOKENIZERS

SAID = {said["llm"]: said for said in FUNCTIONS["tokenizer"]}
ENCODED = [(llm, vector) for llm in LLMS for vector in SAID[llm]["encode"]]
DECODED = [(llm, vector) for llm in LLMS for vector in SAID[llm]["decode"]]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """As they are read again from what a build writes."""
    opened = {}
    for llm, folder in TOKENIZERS.items():
        path = tmp_path_factory.mktemp("engines") / "tokenizer.json"
        read_tokenizer(folder, llm)[0].save(str(path))
        opened[llm] = Tokenizer.from_file(str(path))
    return opened


@pytest.mark.parametrize("llm", LLMS)
def test_ids_of_the_new_tokens_are_the_recorded_ones(tokenizers, llm):
    said, tokenizer = SAID[llm], tokenizers[llm]
    assert tokenizer.get_vocab_size() == said["length"]
    ids = [tokenizer.token_to_id(token) for token in NEW_TOKENS]
    assert ids == list(range(said["first_time_token_id"], said["grounding_token_id"] + 1))
    assert NEW_TOKENS[said["last_time_token_id"] - ids[0]] == "<300>"
    assert read_tokenizer(TOKENIZERS[llm], llm)[1] == said["pad_token_id"]


@pytest.mark.parametrize(("llm", "vector"), ENCODED)
def test_tokens_are_the_recorded_ones(tokenizers, llm, vector):
    assert tokenizers[llm].encode(vector["text"]).ids == vector["ids"]


@pytest.mark.parametrize(("llm", "vector"), DECODED)
def test_text_of_tokens_is_the_recorded_one(tokenizers, llm, vector):
    assert TokenWriter(tokenizers[llm]).text(vector["ids"]) == vector["decoded"]


def test_a_tokenizer_of_the_other_decoder_is_refused():
    with pytest.raises(InvalidRequestError, match=r"the tokenizer has no <\|endoftext\|>"):
        read_tokenizer(TOKENIZERS["llama3"], "phi3.5")

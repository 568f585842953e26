"""Llama's tokenizer against what the reference's library recorded."""

import json
import shutil

import pytest

from groundserve.tokenizers.llama_tokenizer import LlamaTokenizer
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from tests.support.reference import VICUNA, VTIMELLM

RECORDED = json.loads((VTIMELLM / "cases.json").read_text("utf-8"))
VECTORS = RECORDED["tokenizer_vectors"]
LEGACY = pytest.mark.parametrize("legacy", [False, True])


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """Both flavours, each through the file that an engine directory holds."""
    opened = {}
    for legacy in (False, True):
        folder = tmp_path_factory.mktemp(f"legacy_{legacy}")
        shutil.copyfile(VICUNA / "tokenizer.model", folder / "tokenizer.model")
        (folder / "tokenizer_config.json").write_text(json.dumps({"legacy": legacy}))
        read_llama_tokenizer(folder).save(str(folder / "tokenizer.json"))
        opened[legacy] = LlamaTokenizer.from_file(folder / "tokenizer.json")
    return opened


def recorded(record, name, legacy):
    """Return ids of a flavour; they are recorded apart where they differ."""
    return (legacy and record[f"{name}_legacy_true"]) or record[name]


@LEGACY
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["text"]))
def test_ids_are_the_recorded_ones(tokenizers, vector, legacy):
    tokenizer = tokenizers[legacy]
    ids = [tokenizer.begin_id, *tokenizer.encode(vector["text"])]
    assert ids == recorded(vector, "ids", legacy)


@LEGACY
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["text"]))
def test_text_is_the_recorded_one(tokenizers, vector, legacy):
    assert tokenizers[legacy].decode(vector["ids"]) == vector["decoded_skip_special"]


def byte_ids(*values):
    return [3 + value for value in values]


@pytest.mark.parametrize(
    ("token_ids", "text"),
    [
        pytest.param(byte_ids(*"\u4f60".encode()), "\u4f60", id="a_character"),
        pytest.param(byte_ids(*"\u4f60\u597d".encode()[:5]), "\u4f60\ufffd\ufffd", id="cut_short"),
        pytest.param(byte_ids(0xED, 0xA0, 0x80), "\ufffd" * 3, id="half_a_surrogate_pair"),
        pytest.param([2, 579, 579, 0, 579, 1], "  ", id="one_space_in_front_is_not_the_text's"),
    ],
)
def test_bytes_and_spaces_become_text(tokenizers, token_ids, text):
    assert tokenizers[False].decode(token_ids) == text


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        pytest.param("a</s>b", [607], id="without_the_space"),
        pytest.param("a</s> b", [579, 296], id="with_a_space_of_its_own"),
        pytest.param("a</s>17", [609, 616], id="the_space_was_a_piece"),
    ],
)
def test_behind_a_special_token_the_space_in_front_is_taken_off_again(tokenizers, text, tail):
    ids = tokenizers[False].encode(text)
    assert ids == [264, 2, *tail]

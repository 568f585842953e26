"""Llama's tokenizer with added tokens, against what VTG-LLM's reference recorded."""

import json
import shutil

import pytest

from groundserve.tokenizers.llama_added_tokens import AddedTokensLlamaTokenizer
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from tests.support.reference import VTGLLM, VTGLLM_LLAMA

RECORDED = json.loads((VTGLLM / "cases.json").read_text("utf-8"))
FUNCTIONS = RECORDED["functions"]
ENCODED = FUNCTIONS["tokenizer"]["encode"]
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
TIMES = tuple(f"<TIME_{name}>" for name in (*DIGITS, "DOT"))
LEGACY = pytest.mark.parametrize("legacy", [False, True])


def write_tokenizer(folder, *, legacy, added=TIMES):
    """Return the path of a flavour's file, as an engine directory holds it."""
    shutil.copyfile(VTGLLM_LLAMA / "tokenizer.model", folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"legacy": legacy}))
    path = folder / "tokenizer.json"
    read_llama_tokenizer(folder, special=("<ImageHere>",), added=added).save(str(path))
    return path


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    return {
        legacy: AddedTokensLlamaTokenizer.from_file(
            write_tokenizer(tmp_path_factory.mktemp(f"legacy_{legacy}"), legacy=legacy)
        )
        for legacy in (False, True)
    }


def test_added_tokens_have_the_ids_behind_the_pieces(tokenizers):
    assert len(TIMES) == 11
    for tokenizer in tokenizers.values():
        recorded = {token: i for token, i in FUNCTIONS["tokenizer"]["added"].items() if i >= 600}
        assert tokenizer.added_ids == recorded
        assert (tokenizer.begin_id, tokenizer.end_id) == (1, 2)


@LEGACY
@pytest.mark.parametrize("vector", ENCODED, ids=lambda vector: repr(vector["text"]))
def test_ids_are_the_recorded_ones(tokenizers, vector, legacy):
    expected = (legacy and vector["without_legacy_true"]) or vector["without"]
    assert tokenizers[legacy].encode(vector["text"]) == expected


@pytest.mark.parametrize("vector", FUNCTIONS["detokenise"], ids=lambda vector: vector["decoded"])
def test_text_is_the_recorded_one(tokenizers, vector):
    ids = vector["ids"]
    # The reference drops these before it decodes.
    for in_front in (0, 1):
        ids = ids[1:] if ids[:1] == [in_front] else ids
    assert tokenizers[False].decode(ids) == vector["decoded"]


@pytest.mark.parametrize(
    ("token_ids", "texts"),
    [
        pytest.param([262, 2, 562], ("a</s>b", " a</s>b"), id="behind_a_special_token"),
        pytest.param([1, 562], ("<s> b", "<s> b"), id="behind_the_beginning"),
        pytest.param([540, 540, 262], ("  a", " a"), id="spaces_in_front"),
        pytest.param([601, 540], ("<TIME_ZERO> ", "<TIME_ZERO> "), id="a_space_at_the_end"),
        pytest.param([540, 601], ("<TIME_ZERO>", "<TIME_ZERO>"), id="a_space_is_no_word"),
    ],
)
def test_what_stands_between_special_and_added_tokens(tokenizers, token_ids, texts):
    """As transformers v4.41.1 with sentencepiece 0.2.0 gave it, not legacy and legacy."""
    assert (tokenizers[False].decode(token_ids), tokenizers[True].decode(token_ids)) == texts

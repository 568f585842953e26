"""A question is text, whatever it spells: no caller forges a turn, an end or a time."""

import json
import random
import shutil
from dataclasses import dataclass
from typing import Any

import pytest
from tokenizers import Tokenizer

from groundserve.families.base import AnswerTokenizer
from groundserve.families.grounded_videollm.prompt import GroundedTokenizer
from groundserve.families.grounded_videollm.prompt import read_tokenizer as read_grounded
from groundserve.families.plans import SeenVideo
from groundserve.families.vtgllm.prompt import VIDEO_PLACEHOLDER, TimeTokenizer
from groundserve.families.vtgllm.times import TIME_TOKENS
from groundserve.families.vtimellm.prompt import VicunaTokenizer
from groundserve.options import AnswerOptions
from groundserve.tokenizers.llama_added_tokens import AddedTokensLlamaTokenizer
from groundserve.tokenizers.llama_tokenizer import LlamaTokenizer
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from groundserve.tokenizers.tokenizer_json import TokenWriter
from tests.support.reference import VICUNA, VTGLLM_LLAMA
from tests.unit.families.grounded_videollm.recorded import SPECS, TOKENIZERS

SEEN = SeenVideo(
    duration_seconds=10.0,
    num_visual_tokens=100,
    time_range_seconds=(0.0, 10.0),
    model_seconds=(0.0, 5.5),
)
PLACEHOLDERS = ("<video>", "<ImageHere>", "<image>")
FRAGMENTS = (
    *(
        "a",
        "Why",
        " ",
        "  ",
        "\n",
        "\t",
        "'s",
        ".",
        "17",
        "\u00e9",
        "\u4f60",
        "\U0001f642",
        "\u2581",
    ),
    *("<", ">", "</", "s>", "<|", "|>", "user", "end", "<3", "00>", "<TIME_", "unk", "\ufdd0"),
    *("</S>", "<|USER|>", "\uff1c/s\uff1e", "\uff1c|user|\uff1e", "[INST]", "<0x0A>", "< 300>"),
)


@dataclass(frozen=True, kw_only=True)
class Opened:
    tokenizer: AnswerTokenizer
    tokens: dict[int, str]
    """Special and added ones, by id."""
    writer: Any
    """What writes ids out as text."""

    def ids(self, question, **options):
        asked = AnswerOptions(task="chat", **options)
        return self.tokenizer.prompt(question, asked, SEEN).suffix_ids.tolist()

    def controls(self, ids):
        return [one for one in ids if one in self.tokens]


def llama(folder, source, legacy):
    shutil.copyfile(source / "tokenizer.model", folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"legacy": legacy}))
    return folder


def vtimellm(folder, legacy):
    read = read_llama_tokenizer(llama(folder, VICUNA, legacy))
    path = folder / "tokenizer.json"
    read.save(str(path))
    return read, VicunaTokenizer(path), LlamaTokenizer(read).decode


def vtgllm(folder, legacy, time_tokens):
    directory, added = llama(folder, VTGLLM_LLAMA, legacy), TIME_TOKENS if time_tokens else ()
    read = read_llama_tokenizer(directory, special=(VIDEO_PLACEHOLDER,), added=added)
    path = folder / "tokenizer.json"
    read.save(str(path))
    tokenizer = TimeTokenizer(path, time_tokens=time_tokens)
    return read, tokenizer, AddedTokensLlamaTokenizer(read).decode


def grounded(folder, llm):
    path = folder / "tokenizer.json"
    read_grounded(TOKENIZERS[llm], llm)[0].save(str(path))
    read = Tokenizer.from_file(str(path))
    return read, GroundedTokenizer(path, SPECS[llm]), TokenWriter(read).text


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((vtimellm, False), id="vtimellm"),
        pytest.param((vtimellm, True), id="vtimellm-legacy"),
        pytest.param((vtgllm, False, True), id="vtgllm"),
        pytest.param((vtgllm, True, True), id="vtgllm-legacy"),
        pytest.param((vtgllm, False, False), id="vtgllm-without_time_tokens"),
        pytest.param((grounded, "phi3.5"), id="grounded-phi3.5"),
        pytest.param((grounded, "llama3"), id="grounded-llama3"),
    ],
)
def opened(request, tmp_path_factory):
    make, *given = request.param
    read, tokenizer, writer = make(tmp_path_factory.mktemp("tokenizer"), *given)
    tokens = {i: token.content for i, token in read.get_added_tokens_decoder().items()}
    return Opened(tokenizer=tokenizer, tokens=tokens, writer=writer)


def test_no_token_that_a_question_spells_is_one(opened):
    """All of each tokenizer; the text comes back, to the character."""
    plain = opened.ids("Why")
    for token in set(opened.tokens.values()) - set(PLACEHOLDERS):
        question = f"{token}a{token} {token} b\n{token}{token}"
        ids = opened.ids(question)
        assert opened.controls(ids) == opened.controls(plain)
        assert opened.writer(ids) == opened.writer(plain).replace("Why", question)


def test_tokens_are_read_where_that_is_asked_for(opened):
    question = "".join(f"a {token} b" for token in sorted(set(opened.tokens.values())))
    for placeholder in PLACEHOLDERS:
        question = question.replace(placeholder, "")
    as_in_the_reference = opened.ids(question, raw=True)
    assert opened.ids(question, control_tokens=True) == as_in_the_reference
    # All but a placeholder, or an end token that the reference takes out.
    found = {opened.tokens[one] for one in opened.controls(as_in_the_reference)}
    assert len(set(opened.tokens.values()) - found) <= 1


def test_a_question_without_such_tokens_has_the_references(opened):
    draw = random.Random(1)
    compared = 0
    for _ in range(500):
        question = "".join(draw.choices(FRAGMENTS, k=draw.randint(1, 12)))
        if any(token in question for token in (*opened.tokens.values(), *PLACEHOLDERS)):
            continue
        assert opened.ids(question) == opened.ids(question, raw=True), question
        compared += 1
    assert compared > 400

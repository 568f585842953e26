"""VTimeLLM's prompts, against the recorded ones of its reference."""

import json

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import SeenVideo
from groundserve.families.vtimellm.prompt import VicunaTokenizer
from groundserve.options import AnswerOptions
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from tests.support.reference import VICUNA, VTIMELLM

CASES = json.loads((VTIMELLM / "cases.json").read_text("utf-8"))["cases"]
VIDEO = "<video>\n"
ONE_TURN = [case for case in CASES if len(case["turns"]) == 1 and len(case["features"]) == 1]
SEEN = SeenVideo(
    duration_seconds=10.0,
    num_visual_tokens=100,
    time_range_seconds=(0.0, 10.0),
    model_seconds=None,
)
RAW = AnswerOptions(task="chat", raw=True)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "tokenizer.json"
    read_llama_tokenizer(VICUNA).save(str(path))
    return VicunaTokenizer(path)


def question(case):
    """The user's words behind the video."""
    return case["turns"][0]["user"].removeprefix(VIDEO)


GROUNDING = [case for case in ONE_TURN if case["entry"] == "evaluation, grounding"]


@pytest.mark.parametrize("case", GROUNDING, ids=lambda case: case["name"])
def test_a_description_is_put_as_the_references_evaluation_puts_it(tokenizer, case):
    wording = question(case).removeprefix("During which frames can we see ").removesuffix("?")
    for query in (wording, f"  {wording.capitalize()}.\n"):
        prompt = tokenizer.prompt(query, AnswerOptions(task="moment"), SEEN)
        assert prompt.token_ids.tolist() == case["input_ids"]


def test_captions_are_asked_for_as_the_references_evaluation_asks(tokenizer):
    (case,) = [case for case in ONE_TURN if case["entry"] == "evaluation, dense captioning"]
    prompt = tokenizer.prompt("", AnswerOptions(task="captions"), SEEN)
    assert prompt.token_ids.tolist() == case["input_ids"]


@pytest.mark.parametrize(
    ("query", "same"),
    [
        pytest.param("A dog runs.", "a dog runs", id="a_stop"),
        pytest.param("a dog runs..", None, id="only_one_of_them"),
        pytest.param("a dog runs .", None, id="not_the_space_before_it"),
        pytest.param("a dog runs!", None, id="nothing_else"),
    ],
)
def test_a_description_loses_its_stop(tokenizer, query, same):
    def ids(words):
        return tokenizer.prompt(words, AnswerOptions(), SEEN).token_ids.tolist()

    assert (ids(query) == ids("a dog runs")) == (same is not None)


@pytest.mark.parametrize("task", ["moment", "captions"])
def test_raw_leaves_out_the_wording_of_every_task(tokenizer, task):
    raw = tokenizer.prompt(" x.", AnswerOptions(task=task, raw=True), SEEN).token_ids.tolist()
    assert raw == tokenizer.prompt(" x.", RAW, SEEN).token_ids.tolist()


@pytest.mark.parametrize("query", [".", " . "])
def test_a_moment_of_nothing_is_refused(tokenizer, query):
    with pytest.raises(InvalidRequestError, match="QUERY must say what to look for"):
        tokenizer.prompt(query, AnswerOptions(task="moment"), SEEN)

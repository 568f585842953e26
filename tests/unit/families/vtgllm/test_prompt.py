"""VTG-LLM's prompts and answers, against the recorded ones of its reference."""

import json

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import SeenVideo
from groundserve.families.vtgllm.prompt import VIDEO_PLACEHOLDER, TimeTokenizer
from groundserve.families.vtgllm.times import TIME_TOKENS
from groundserve.options import AnswerOptions
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from tests.support.reference import VTGLLM, VTGLLM_LLAMA

RECORDED = json.loads((VTGLLM / "cases.json").read_text("utf-8"))
CASES = RECORDED["cases"]
DETOKENISED = RECORDED["functions"]["detokenise"]
PLAIN = "no_time_token"
RAW = AnswerOptions(task="chat", raw=True)
TIME_IDS = range(601, 612)


def seen(seconds):
    return SeenVideo(
        duration_seconds=100.0,
        num_visual_tokens=256,
        time_range_seconds=None,
        model_seconds=tuple(seconds),
    )


def seen_of(case):
    return seen(float(time) for time in case["timestamps"])


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """With and without time tokens, each through the file that an engine directory holds."""
    opened = {}
    for time_tokens in (True, False):
        path = tmp_path_factory.mktemp("engines") / "tokenizer.json"
        added = TIME_TOKENS if time_tokens else ()
        tokenizer = read_llama_tokenizer(VTGLLM_LLAMA, special=(VIDEO_PLACEHOLDER,), added=added)
        tokenizer.save(str(path))
        opened[time_tokens] = TimeTokenizer(path, time_tokens=time_tokens)
    return opened


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers[True]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_no_question_changes_the_prefix(tokenizers, case):
    """With time tokens it ends with the last of them, without with the sentence."""
    tokenizer = tokenizers[case["config"] != PLAIN]
    prompts = [
        tokenizer.prompt(question, RAW, seen_of(case))
        for question in (case["turns"][0]["question"], "", " \u2581x", "<TIME_ONE>", "</s>", "...")
    ]
    prefix = prompts[0].prefix_ids.tolist()
    assert all(prompt.prefix_ids.tolist() == prefix for prompt in prompts)
    assert all(prompt.suffix_ids.size for prompt in prompts)
    if case["config"] == PLAIN:
        assert prefix[-1] == 555  # "."
    else:
        assert sum(i in TIME_IDS for i in prefix) == 6 * len(case["timestamps"])
        assert prefix[-1] in TIME_IDS


WORDED = {"tvg": "moment", "dvc": "captions", "vhd": "highlights", "vs": "summary"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_tasks_ask_in_the_words_of_the_reference(tokenizers, case):
    """Its evaluation puts a description between quotation marks, without its full stops."""
    task, question = WORDED[case["task"]], case["turns"][0]["question"]
    tokenizer = tokenizers[case["config"] != PLAIN]
    quoted = question.split("'")[1] if task in ("moment", "highlights") else ""
    for query in {quoted, f"..{quoted}." if quoted else ""}:
        prompt = tokenizer.prompt(query, AnswerOptions(task=task), seen_of(case))
        assert prompt.token_ids.tolist() == case["turns"][0]["input_ids"]


@pytest.mark.parametrize("query", [".", "..", " . "])
@pytest.mark.parametrize("task", ["moment", "highlights"])
def test_a_description_of_nothing_is_refused(tokenizer, query, task):
    with pytest.raises(InvalidRequestError, match=f"QUERY must say what to look for.* {task}"):
        tokenizer.prompt(query, AnswerOptions(task=task), seen([0.0]))


@pytest.mark.parametrize("vector", DETOKENISED, ids=lambda vector: repr(vector["text"]))
def test_text_is_the_recorded_one(tokenizer, vector):
    assert tokenizer.text(vector["ids"]) == vector["text"]

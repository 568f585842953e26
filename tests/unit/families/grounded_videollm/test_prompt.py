"""Grounded-VideoLLM's prompts, against the recorded ones of its reference."""

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm.prompt import GroundedTokenizer, read_tokenizer
from groundserve.families.grounded_videollm.times import (
    GROUNDING_TOKEN,
    TEMPLATES,
    write_seconds,
    write_whole_seconds,
)
from groundserve.options import AnswerOptions
from tests.unit.families.grounded_videollm.recorded import (
    FUNCTIONS,
    LLMS,
    RECORDED,
    SPECS,
    TOKENIZERS,
    seen,
)

TASK_OF_MODE = {"grounding": "moment", "qa": "question", "referring": "referring"}
ITEMS = [
    (case["llm"], item, decoded)
    for case in RECORDED["cases"]
    for item, decoded in zip(case["items"], case["decode"], strict=True)
]
SEEN = seen(30.0)
BIKES = "The man in black rides a bike down the street"


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    opened = {}
    for llm, folder in TOKENIZERS.items():
        path = tmp_path_factory.mktemp("engines") / "tokenizer.json"
        read_tokenizer(folder, llm)[0].save(str(path))
        opened[llm] = GroundedTokenizer(path, SPECS[llm])
    return opened


def raw(mode):
    return AnswerOptions(task=TASK_OF_MODE[mode], raw=True)


@pytest.mark.parametrize("vector", FUNCTIONS["prompts"])
def test_raw_prompts_are_the_recorded_ones(tokenizers, vector):
    prompt = tokenizers[vector["llm"]].prompt(
        vector["query"], raw(vector["mode"]), seen(vector["duration"])
    )
    assert prompt.token_ids.tolist() == vector["input_ids"]
    assert prompt.token_ids.dtype == "int64"


@pytest.mark.parametrize("query", [BIKES, f"  {BIKES}\n"])
@pytest.mark.parametrize("llm", LLMS)
def test_a_description_is_put_as_the_reference_puts_it(tokenizers, llm, query):
    (item,) = [i for one, i, _ in ITEMS if one == llm and BIKES in i["query"]]
    prompt = tokenizers[llm].prompt(query, AnswerOptions(task="moment"), seen(item["duration"]))
    assert prompt.token_ids.tolist() == item["input_ids"]


@pytest.mark.parametrize("llm", LLMS)
def test_captions_are_asked_for_with_times(tokenizers, llm):
    asked = tokenizers[llm].prompt("", AnswerOptions(task="captions"), SEEN).token_ids.tolist()
    words = (
        "Localize a series of activity events in the video, output the start and end timestamp "
        "for each event, and describe each event with sentences."
    )
    assert asked == tokenizers[llm].prompt(words, raw("grounding"), SEEN).token_ids.tolist()


def test_a_turn_without_times_loses_the_space_around_it(tokenizers):
    """One with them does not, and neither does one whose words hold the token for them."""
    tokenizer = tokenizers["phi3.5"]

    def same(query, other, options):
        return (
            tokenizer.prompt(query, options, SEEN).token_ids.tolist()
            == tokenizer.prompt(other, options, SEEN).token_ids.tolist()
        )

    assert same(" Why? \n", "Why?", AnswerOptions(task="chat"))
    assert not same(" Why? \n", "Why?", raw("grounding"))
    asked = f"Why {GROUNDING_TOKEN}?"
    assert same(f"{asked} \n", asked, AnswerOptions(task="chat"))  # which is text
    assert not same(f"{asked} \n", asked, AnswerOptions(task="chat", control_tokens=True))


@pytest.mark.parametrize("llm", LLMS)
def test_an_end_token_is_taken_out_of_a_question(tokenizers, llm):
    end = TEMPLATES[llm].end
    ids = [
        tokenizers[llm].prompt(query, raw("qa"), SEEN).token_ids.tolist()
        for query in (f"Wh{end}y?", "Why?")
    ]
    assert ids[0] == ids[1]


def test_seconds_become_tokens(tokenizers):
    """Fractions too, which the reference takes apart."""
    tokenizer, said = tokenizers["phi3.5"], FUNCTIONS["tokenizer"][0]
    times = range(said["first_time_token_id"], said["last_time_token_id"] + 1)

    def steps(query, options):
        ids = tokenizer.prompt(query, options, seen(142.04)).token_ids
        return [one - times[0] for one in ids.tolist() if one in times]

    referring = AnswerOptions(task="referring")
    assert steps("From 70 seconds to 80 seconds?", referring) == [147, 168]
    assert steps("From 70.5 seconds to 80 seconds?", referring) == [148, 168]
    assert steps("After 1 second?", referring) == [2]
    assert steps("From 70.5 seconds to 80 seconds?", raw("referring")) == [168]
    assert steps("until 142.04 seconds", referring) == [300]
    # A caller says times in seconds; a token that is written out is text, unless asked for.
    literal = "From <9> or 70 seconds to <300> ?"
    assert steps(literal, referring) == [147]
    assert steps(literal, AnswerOptions(task="referring", control_tokens=True)) == [9, 147, 300]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("What is at 31 seconds?", "a time past the video's end, which is at 30 s, got 31 seconds"),
        (f"At {'9' * 400} seconds?", "a time past the video's end"),
        ("What is shown first?", "must name the times it refers to"),
        ("What is shown (5 seconds)?", "must have a word before its first time and a space"),
        (" 5 seconds to 8 seconds", "must have a word before its first time and a space"),
        ("At <9> (5 seconds)", "must have a word before its first time and a space"),
        ("At 5 seconds " + "word\n" * 2100, "must have at most 2048 tokens"),
    ],
)
def test_times_that_the_model_would_not_read_are_refused(tokenizers, query, message):
    with pytest.raises(InvalidRequestError, match=message):
        tokenizers["phi3.5"].prompt(query, AnswerOptions(task="referring"), SEEN)


@pytest.mark.parametrize("number", ["1" * 2_000_000, f"1.{'1' * 2_000_000}"], ids=["whole", "part"])
def test_a_long_number_is_searched_once(number):
    """A search from each of its digits would not end."""
    assert write_whole_seconds(number, 9.0) == number
    with pytest.raises(InvalidRequestError, match="must name the times it refers to"):
        write_seconds(number, 9.0)

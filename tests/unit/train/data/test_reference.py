"""Against what the reference's data functions returned; see tests/fixtures/videoitg_ref2.

Each case in which we differ is listed with what it gives here; docs/train.md says why.
"""

from __future__ import annotations

import json

import pytest

from groundserve.data_record import parse_record
from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID
from tests.support.reference import SET_2
from train.data import order
from train.examples import IGNORE_INDEX
from train.families.videoitg.samples import ConversationTokenizer

RECORDED = json.loads((SET_2 / "training.json").read_text("utf-8"))
CASES = {case["name"]: case for case in RECORDED["conversations"]}
REFUSED = {
    # Two places for one image: the reference's model looks for a second one (IndexError).
    "placeholder_in_a_later_message": "in the first message only, got 1 elsewhere",
    "caption_placeholder_in_the_answer": "in the first message only, got 1 elsewhere",
    # Learnt as the letters of the placeholder.
    "text_alone_with_placeholder": "only with an image or a video, got 1",
    # The second "gpt" stays in front of the first question, and is learnt.
    "begins_with_gpt_twice": 'must be from "human"',
    # Under the template plain the reference learns the second message, whoever says it.
    "caption_begins_with_gpt": "at least two messages",
    # Exceptions that end the reference's run.
    "begins_with_system": "a message of conversations must be",
    "caption_of_four_messages": "for the template plain, got 4",
}
OTHERS = {
    # There the image is lost together with the message that got its placeholder.
    "begins_with_gpt_placeholder_missing": CASES["begins_with_gpt"],
    # There an assertion ends the run; here the answer is learnt as that of an image is.
    "caption_without_media": {
        "input_ids": CASES["caption_two_placeholders"]["input_ids"][1:],
        "labels": CASES["caption_two_placeholders"]["labels"][1:],
    },
}


def tokenize(case):
    """Return ids and targets, without the placeholder that every text has here."""
    tokenizer, _ = Checkpoint.open(SET_2 / "videoitg-pad-endoftext").load_tokenizer()
    media = {"image": "a.png"} if case["has_media"] else {}
    fields = {"conversations": case["conversations"], **media}
    record = parse_record(fields, name="r", is_grounding=False)
    text = ConversationTokenizer(tokenizer, template=case["template"], pad_token_id=0).text(
        record.messages, has_media=case["has_media"]
    )
    ids, targets = text.ids.tolist(), text.targets.tolist()
    if not case["has_media"]:
        assert (ids.pop(), targets.pop()) == (IMAGE_TOKEN_ID, IGNORE_INDEX)
    return {"input_ids": ids, "labels": targets}


@pytest.mark.parametrize("name", sorted(CASES.keys() - REFUSED.keys()))
def test_conversations_are_the_references(name):
    expected = OTHERS.get(name, CASES[name])
    if name in OTHERS:
        assert CASES[name].get("input_ids") != expected["input_ids"]
    assert tokenize(CASES[name]) == {key: expected[key] for key in ("input_ids", "labels")}


@pytest.mark.parametrize("name", REFUSED)
def test_conversations_that_the_reference_gets_wrong_are_refused(name):
    with pytest.raises(InvalidRequestError, match=REFUSED[name]):
        tokenize(CASES[name])


def in_blocks(case, *, block):
    """Our order of the recorded permutation."""
    lengths = [case["lengths"][i] for i in case["permutation"]]  # of the places
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order.random.Random, "shuffle", lambda self, items: None)
        places = order.epoch_order(len(lengths), lengths=lengths, seed=0, epoch=0, block=block)
    return [case["permutation"][place] for place in places]


@pytest.mark.parametrize("case", RECORDED["length_blocks"][:3])
def test_length_blocks_are_the_references(case):
    """One sample a pass, as in its script, and no accumulation."""
    assert case["batch_size"] == 1
    assert in_blocks(case, block=case["world_size"]) == case["order"]
    assert case["order"] != case["permutation"]


@pytest.mark.parametrize("case", RECORDED["length_blocks"][:3])
def test_with_accumulation_a_step_has_the_references_samples(case):
    """Its block is a step's, ours a pass's: other ranks read them, the mean is the same."""
    step = case["world_size"]
    ours = in_blocks(case, block=step // 2)
    for start in range(0, len(ours), step):
        assert sorted(ours[start : start + step]) == sorted(case["order"][start : start + step])
    assert ours != case["order"]

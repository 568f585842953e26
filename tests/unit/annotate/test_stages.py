"""One question after the other, through all stages, with an endpoint that is right."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from groundserve.annotate.annotation import Annotation, frame_agreement, frame_spans
from groundserve.annotate.calls import read_calls
from groundserve.annotate.replies import read_reply
from groundserve.batch.engines import EngineSource
from groundserve.batch.group_scorer import JobError
from groundserve.data_record import CLIP_SECONDS
from groundserve.errors import UnavailableError
from groundserve.storage import open_storage
from tests.support.digits_llm import INJECTION
from tests.unit.evaluation.qa.chat_server import Act


def prompt_of(request):
    parts = request["messages"][0]["content"]
    return "\n".join(part["text"] for part in parts if part["type"] == "text")


def stage_of(request):
    return request.get("response_format", {}).get("json_schema", {}).get("name")


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory):
    """CLIP's tower, small and untrained."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return str(folder)


def test_every_question_gets_the_frames_that_answer_it(bench, digit_set):
    opened = bench()
    for record in digit_set.records:
        note = opened.annotate(record)
        assert (note.state, note.dropped) == ("success", "")
        assert note.frames == record["frame_num"]
        assert (note.type in ("motion", "both")) == (record["motion"] == "Yes")
        assert note.existence == (record["existence"] == "Yes")
        assert len(note.reasons) == len(note.frames)
        if note.type == "non_clue":
            assert not note.captions
        elif note.frames:
            assert len(note.captions) == 4  # of 18 seconds
            assert note.clips == sorted({frame // CLIP_SECONDS for frame in note.frames})
        else:
            assert note.candidates == list(range(18))
    for request in opened.server.requests:
        assert (request["temperature"], request["top_p"]) == (0, 0.1)
        if stage_of(request) == "localise":
            shown = [one for one in request["messages"][0]["content"] if "image_url" in one]
            assert len(shown) <= 16
            assert {one["image_url"]["detail"] for one in shown} == {"low"}


def test_the_answer_is_kept_from_the_scripts_retrieval_and_told_to_the_papers(
    bench, digit_set, clip_model
):
    (record,) = [one for one in digit_set.records if one["id"].endswith("00000-3")]
    for choice in ("script", "paper"):
        opened = bench(place=choice, choice=choice, rules={"clip_model": clip_model})
        opened.annotate(record)
        asked = {stage_of(request): prompt_of(request) for request in opened.server.requests}
        assert (f"Answer: {record['answer']}" in asked["retrieve"]) == (choice == "paper")
        assert ("motion" in asked) == (choice == "script")
        assert ("type" in asked) == (choice == "paper")
        rule = "choose the first two" if choice == "script" else "choose all of them"
        assert rule in asked["retrieve"]


def test_the_type_decides_which_frames_are_judged(bench, digit_set, clip_model):
    """With a threshold of -1 all but the first frame is thinned."""
    by_type = {}
    opened = bench(choice="paper", rules={"clip_model": clip_model, "scene_threshold": -1.0})
    for record in digit_set.records:
        note = opened.annotate(record)
        by_type.setdefault((note.type, note.existence), note)
    semantic, motion = by_type["semantic", False], by_type["motion", False]
    whole, both = by_type["non_clue", False], by_type["both", False]
    in_clips = {
        note.type: [frame for frame in range(18) if frame // CLIP_SECONDS in note.clips]
        for note in (semantic, motion, both)
    }
    assert semantic.candidates == in_clips["semantic"][:1]
    assert motion.candidates == in_clips["motion"]
    outside = [frame for frame in range(18) if frame not in in_clips["both"]]
    assert both.candidates == sorted([*in_clips["both"], outside[0]])
    assert whole.candidates == [0]
    assert whole.thinned == list(range(1, 18))
    absent = next(note for (_, is_absent), note in by_type.items() if is_absent)
    assert absent.candidates == [0]


def test_a_call_that_was_answered_is_not_made_again(bench, digit_set, tmp_path):
    record = digit_set.records[0]
    first = bench()
    note = first.annotate(record)
    calls = list(read_calls(open_storage(str(tmp_path / "run"))))
    assert len(calls) == len(first.server.requests)
    assert {call.state for call in calls} == {"success"}
    assert all(call.usage["prompt_tokens"] for call in calls)
    again = bench()
    assert again.annotate(record) == note
    assert again.server.requests == []


class Spoiled:
    """An endpoint whose replies to one stage are something else, for so many times."""

    def __init__(self, digit_set, stage, act, *, times=99):
        self.llm, self.stage = digit_set.llm, stage
        self.act, self.times = act, times

    def __call__(self, request):
        if stage_of(request) == self.stage and self.times:
            self.times -= 1
            return self.act(self.llm(request))
        return self.llm(request)


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ("retrieve", json.dumps({"explanation": "", "clip_num": "One clip: [Clip-44]"})),
        ("retrieve", json.dumps({"explanation": "", "clip_num": f"One clip: [Clip-{'9' * 4400}]"})),
        ("localise", json.dumps({"frames": [{"frame": 17, "relevant": "Yes", "reason": ""}]})),
    ],
)
def test_a_reply_that_cannot_be_used_is_mended_once_and_then_has_a_name(
    bench, digit_set, stage, text
):
    record = digit_set.records[0]

    def spoiled(times):
        script = Spoiled(digit_set, stage, lambda act: Act(text=text), times=times)
        opened = bench(script, place=str(times), rules={"frames_per_call": 3})
        return opened, opened.annotate(record)

    opened, note = spoiled(1)
    assert note.frames == record["frame_num"]
    begins = text[:4000]  # of a long one the request to mend it has no more
    repairs = [one for one in opened.server.requests if begins in prompt_of(one)]
    assert len(repairs) == 1
    _, note = spoiled(99)
    assert note.state == "error"
    assert note.why_dropped(0.0).startswith(f"error: {stage}: InvalidReply: ")


def test_cut_and_refused_replies_end_a_question_and_no_other(bench, digit_set):
    acts = (
        ("refused", Act(text="", refusal="no")),
        ("refused", Act(text="I'm sorry, but I cannot help.")),
        ("truncated", Act(text='{"explanation": "becau', finish_reason="length")),
    )
    for number, (state, act) in enumerate(acts):
        script = Spoiled(digit_set, "retrieve", lambda _, act=act: act, times=2 - (number < 2))
        opened = bench(script, place=str(number))
        assert opened.annotate(digit_set.records[0]).state == state
        assert opened.annotate(digit_set.records[3]).state == "success"


def test_an_endpoint_that_is_gone_is_an_error_of_the_row_not_of_the_question(bench, digit_set):
    opened = bench(lambda request: Act(status=503))
    with pytest.raises(UnavailableError, match="type: server_error"):
        opened.annotate(digit_set.records[0])


def test_an_endpoint_that_is_gone_leaves_its_calls_to_another(bench, digit_set):
    opened = bench(gone=["http://127.0.0.1:9/v1"])
    record = digit_set.records[0]
    assert opened.annotate(record).frames == record["frame_num"]


def test_a_run_ends_where_answers_cannot_be_kept(bench, digit_set, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "calls").write_text("a file in the place of the folder")
    opened = bench()
    with pytest.raises(JobError, match=r"cannot keep answers: cannot read .*/calls/"):
        opened.annotate(digit_set.records[0])


def test_half_a_character_in_a_caption_spoils_no_later_request(bench, digit_set):
    opened = bench(Spoiled(digit_set, None, lambda act: Act(text=f"{act.text} \ud83d")))
    record = digit_set.records[0]
    note = opened.annotate(record)
    assert note.frames == record["frame_num"]
    assert note.captions[0].endswith(" ?")


def test_a_caption_cannot_pretend_to_be_another_clips(bench, digit_set):
    opened = bench(
        Spoiled(digit_set, None, lambda act: Act(text=f"{act.text}\n{INJECTION}", usage=act.usage))
    )
    record = digit_set.records[0]
    assert opened.annotate(record).frames == record["frame_num"]
    (prompt,) = [prompt_of(r) for r in opened.server.requests if stage_of(r) == "retrieve"]
    assert "choose me" in prompt
    lines = re.findall(r"^\*\*Clip-(\d+)\*\*: ", prompt, re.MULTILINE)
    assert lines == ["0", "1", "2", "3"]
    assert prompt.count("**Clip-") == 4


def test_ours_must_agree(bench, digit_set):
    """The checkpoint that comes with groundserve looks at the same frames."""
    record = next(one for one in digit_set.records if one["type"] == "semantic")
    right = bench(verifier=EngineSource()).annotate(record)

    def confuse(act):
        frames = json.loads(act.text)["frames"]
        for one in frames:
            one["relevant"] = "No" if one["relevant"] == "Yes" else "Yes"
        return Act(text=json.dumps({"frames": frames}))

    script = Spoiled(digit_set, "localise", confuse)
    wrong = bench(script, "wrong", verifier=EngineSource()).annotate(record)
    assert right.agreement > 0.6
    assert right.why_dropped(0.5) == ""
    assert wrong.frames
    assert wrong.agreement < 0.4
    assert wrong.why_dropped(0.5).startswith("agreement 0.")


def test_agreement_and_spans_leave_out_what_was_thinned():
    note = Annotation(
        question="", answer="", frames=[2, 5, 9], thinned=[3, 4, 6], candidates=[2, 5, 7, 8, 9]
    )
    # 3, 4 and 6 are not compared: of 2, 5, 9 and 2, 5, 7 two are the same.
    assert frame_agreement(note, [2, 3, 4, 5, 6, 7], 12) == 2 / 4
    assert frame_agreement(Annotation(question="", answer=""), [], 12) == 1
    times = np.arange(12.0)
    # 2 to 5 are one stretch, as 3 and 4 look like 2; 6 may, but 7 does not help.
    assert frame_spans(note, times, 12.0) == [(2.0, 6.0), (9.0, 10.0)]


def test_verdicts_are_of_the_frames_that_were_shown():
    good = [{"frame": n, "relevant": "Yes", "reason": "r"} for n in (4, 3)]
    told = read_reply("localise", f"```json\n{json.dumps({'frames': good})}\n```").of([3, 4])
    assert [one.frame for one in told] == [3, 4]
    for bad in (good[:1], [*good, good[0]], []):
        with pytest.raises(ValueError, match="each of the frames 3, 4 once"):
            read_reply("localise", json.dumps({"frames": bad})).of([3, 4])

"""What is made of rows, and of people's verdicts, from a run directory written by hand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from groundserve.annotate.annotation import Annotation
from groundserve.annotate.audit import read_audit, write_audit
from groundserve.annotate.calls import Call
from groundserve.annotate.items import ItemParser
from groundserve.annotate.outputs import read_items, write_outputs
from groundserve.annotate.prompts import fill, read_prompts
from groundserve.annotate.review import write_review
from groundserve.annotate.settings import by_stage, one_by_stage
from groundserve.batch.row import BadRow
from groundserve.batch.shards import SCORES, encode_rows, shard_name
from groundserve.cli.annotate import audit
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.spending import Prices
from groundserve.options import AnswerOptions
from groundserve.storage import open_storage
from tests.unit.annotate.conftest import settings
from train.data.records import read_records

KINDS = {
    "good": {"frames": [3, 4, 11], "spans": [(3.0, 5.0), (11.0, 12.0)], "agreement": 0.9},
    "doubted": {"frames": [5], "spans": [(5.0, 6.0)], "agreement": 0.2},
    "absent": {"existence": True, "agreement": 1.0},
    "clueless": {"dropped": "no clip helps"},
    "refused": {"state": "refused", "dropped": "refused: caption: the model refused"},
}
NUM_EACH = 20


def note_of(kind):
    values = {"reasons": ["seen"] * len(KINDS[kind].get("frames", [])), **KINDS[kind]}
    return Annotation(question=f"<b>{kind}</b>?", answer="yes", type="both", **values)


@pytest.fixture
def storage(tmp_path):
    """A run of 20 videos, each with a question of each kind, and its calls."""
    storage = open_storage(str(tmp_path / "run"))
    rows = [
        {
            "id": f"{kind}-{number:02d}",
            "video": f"videos/{number:02d}.mp4",
            "query": "a question",
            "fps": 10.0,
            "duration_seconds": 12.5,
            "pts_seconds": [float(second) for second in range(13)],
            "answer": json.dumps([asdict(note_of(kind))]),
        }
        for number in range(NUM_EACH)
        for kind in KINDS
    ]
    data = encode_rows(rows)
    storage.write(shard_name(SCORES, hashlib.sha256(data).hexdigest()), data)
    for number in range(30):
        call = Call(
            stage="caption",
            state="success",
            text="t",
            usage={"prompt_tokens": 400, "completion_tokens": 50},
            retries=0,
            is_repair=number == 0,
        )
        storage.write(f"calls/{number % 7:02d}/{number}.json", json.dumps(asdict(call)).encode())
    return storage


def test_stage_4_reads_what_is_kept_and_the_figures_add_up(storage):
    prices = Prices(prompt=1.0, completion=4.0)
    summary = write_outputs(storage, read_items(storage, min_agreement=0.5), prices=prices)
    assert (summary["annotations"], summary["kept"]) == (100, 40)
    assert summary["dropped"] == {"disagreed": 20, "no clip helps": 20, "refused": 20}
    assert (summary["calls"], summary["prompt_tokens"]) == (30, 12_000)
    assert summary["cost"] == pytest.approx(12_000e-6 + 4 * 1_500e-6)
    assert summary["cost_per_video_hour"] == pytest.approx(0.018 / (20 * 12.5 / 3600))

    file = read_records(Path(storage.place) / "annotations.json", stage="grounding")
    assert not file.warnings
    assert [record.positive_frames for record in file.records] == [(), (3, 4, 11)] * NUM_EACH
    records = json.loads(storage.read("annotations.json"))
    assert records[1] == {
        "id": "good-00",
        "video": "videos/00.mp4",
        "question": "<image>\n<b>good</b>?",
        "answer": "yes",
        "frame_num": [3, 4, 11],
        "clip_num": [0, 2],
        "motion": "Yes",
        "existence": "No",
        "type": "both",
        "duration": 12.5,
    }
    assert len(json.loads(storage.read("annotations_all.json"))) == 60
    lines = [json.loads(line) for line in storage.read("spans.jsonl").splitlines()]
    assert len(lines) == NUM_EACH
    assert lines[0]["events"] == [{"query": "<b>good</b>?", "span": [[3.0, 5.0], [11.0, 12.0]]}]
    lenient = read_items(storage, min_agreement=0.1)
    assert write_outputs(storage, lenient, prices=prices)["kept"] == 60


def test_pages_show_all_and_run_nothing(storage):
    write_review(storage, read_items(storage, min_agreement=0.5))
    page = storage.read("review/0001.html").decode()
    assert page.count("<section") == 100
    assert "&lt;b&gt;good&lt;/b&gt;" in page
    assert "<b>good" not in page
    assert "dropped: agreement 0.20 is below 0.5" in page
    assert storage.names("review") == ["0001.html"]


def test_people_judge_a_tenth_of_both_and_are_read_back(storage, tmp_path):
    items = read_items(storage, min_agreement=0.5)
    assert write_audit(storage, items, video_url="/files/") == 4 + 4
    tasks = json.loads(storage.read("audit/tasks.json"))
    assert write_audit(storage, reversed(items), video_url="/files/") == 8
    assert json.loads(storage.read("audit/tasks.json")) == tasks
    assert tasks[0]["data"]["video"].startswith("/files/videos/")
    for task in tasks:
        verdict = "right" if task["data"]["is_kept"] else "wrong"
        choice = {"type": "choices", "value": {"choices": [verdict]}}
        (told,) = task["predictions"]
        ranges = [one["value"]["ranges"][0] for one in told["result"]]
        if task["data"]["question"] == "<b>good</b>?":
            assert ranges == [{"start": 31, "end": 50}, {"start": 111, "end": 120}]
        task["annotations"] = [{"result": [choice, *told["result"]], "was_cancelled": False}]
    export = tmp_path / "export.json"
    export.write_text(json.dumps(tasks))
    judged = read_audit(export)
    assert judged == {
        "num_kept": 4,
        "num_dropped": 4,
        "kept_precision": 1.0,
        "dropped_precision": 0.0,
    }
    export.write_text(json.dumps([{"data": {}}]))
    with pytest.raises(InvalidRequestError, match="not what Label Studio exports"):
        read_audit(export)


def test_verdicts_are_read_back_into_a_run_alone(tmp_path):
    (tmp_path / "export.json").write_text("[]")
    with pytest.raises(InvalidRequestError, match="typo has no run of groundserve"):
        audit(str(tmp_path / "typo"), tmp_path / "export.json")
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("/data/local-files/?d=", "/data/local-files/?d=a/b%20%231.mp4"),
        ("https://host/files/", "https://host/files/a/b%20%231.mp4"),
        ("s3://bucket/", "s3://bucket/a/b #1.mp4"),
    ],
)
def test_people_are_shown_videos_with_odd_names(storage, url, place):
    item = replace(read_items(storage, min_agreement=0.5)[0], video="a/b #1.mp4")
    write_audit(storage, [item], video_url=url)
    (task,) = json.loads(storage.read("audit/tasks.json"))
    assert task["data"]["video"] == place


def test_prompts_can_be_replaced_one_by_one(tmp_path):
    (tmp_path / "phrase.txt").write_text("Name what $question is about. $$5")
    prompts, usual = read_prompts(tmp_path), read_prompts()
    filled = fill(prompts["phrase"], question="costs $answer", answer="no")
    assert filled == "Name what costs $answer is about. $5"
    assert {name for name in usual if prompts[name] != usual[name]} == {"phrase"}
    (tmp_path / "phrase.txt").write_text("$frames")
    with pytest.raises(
        InvalidRequestError, match=r"may name \$answer, \$question and nothing else"
    ):
        read_prompts(tmp_path)
    (tmp_path / "phrase.txt").rename(tmp_path / "phase.txt")
    with pytest.raises(InvalidRequestError, match="got phase"):
        read_prompts(tmp_path)


def test_values_by_stage():
    found = by_stage(["http://a/v1", "caption,localise=http://b/v1"], "--endpoint")
    assert found["caption"] == found["localise"] == ["http://b/v1"]
    assert found["retrieve"] == ["http://a/v1"]
    with pytest.raises(InvalidRequestError, match="--endpoint says nothing for propose, phrase"):
        by_stage(["caption=http://b/v1"], "--endpoint")


def test_a_stage_has_one_model():
    assert one_by_stage(["a", "caption=b"], "--model")["caption"] == "b"
    with pytest.raises(InvalidRequestError, match="--model says a and b for propose; give one"):
        one_by_stage(["a", "b"], "--model")


def test_replies_may_be_as_long_as_what_is_asked_for():
    """A list of all 205 clips, and 64 tokens for each verdict and half a question."""
    fields = settings("http://a/v1", rules={"frames_per_call": 100, "proposals": 50}).fields
    most = {stage: fields(stage)["max_tokens"] for stage in ("retrieve", "localise", "propose")}
    assert most["retrieve"] >= 205 * 7
    assert most["localise"] >= 100 * 64
    assert most["propose"] >= 50 * 128


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({"query": "When?"}, "query is called question here", id="name_of_batch"),
        pytest.param({"question": 0}, "question must be a text, got 0", id="number"),
        pytest.param({"answer": "yes"}, "an answer needs a question", id="answer_alone"),
        pytest.param({"question": " "}, "question must not be empty or blank", id="blank"),
    ],
)
def test_a_row_whose_question_is_not_read_is_told_and_none_is_proposed(fields, told):
    row = ItemParser("/", AnswerOptions()).parse({"video": "v.mp4", **fields}, 0)
    assert isinstance(row, BadRow)
    assert told in row.message


def test_a_question_may_begin_as_records_do():
    fields = {"video": "v.mp4", "question": "<image>\nWhen?", "answer": "now"}
    assert ItemParser("/", AnswerOptions()).parse(fields, 0).query == '["When?", "now"]'


def test_a_contract_has_a_part_for_each_thing_that_decides(tmp_path):
    usual = settings("http://a/v1")
    assert settings("http://b/v1").contract == usual.contract  # where a model is decides nothing
    (tmp_path / "caption.txt").write_text("Say what you see.")
    other = settings("http://a/v1", rules={"frames_per_call": 1})
    changed = replace(other, prompts=read_prompts(tmp_path)).contract
    differs = {name for name in usual.contract if usual.contract[name] != changed[name]}
    assert differs == {"frames-per-call", "sampling of localise", "prompt caption"}
    assert settings("http://a/v1", choice="paper").identity["id"] != usual.identity["id"]

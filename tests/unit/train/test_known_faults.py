"""What a run says about its records before it loads anything."""

import json
from dataclasses import replace

import pytest

from groundserve.errors import InvalidRequestError
from tests.unit.train.data.samples import question
from tests.unit.train.runs import make_config
from train.config import ValidationConfig
from train.known_faults import check_records
from train.loop import train
from train.parallel import Processes


@pytest.fixture
def make_run(tmp_path):
    """Return a config over records, whose start does not exist: nothing is loaded."""
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"never opened")

    def make_run(records, *, validation=None, **data):
        (tmp_path / "records.json").write_text(json.dumps(records))
        config = make_config(tmp_path / "run", auxiliary_weight=0.0, init=tmp_path / "nowhere")
        data = {"records": tmp_path / "records.json", "media_root": tmp_path, **data}
        if validation is not None:
            (tmp_path / "validation.json").write_text(json.dumps(validation))
            config = replace(
                config,
                validation=ValidationConfig(
                    records=tmp_path / "validation.json", media_root=tmp_path, every_steps=1
                ),
            )
        return replace(config, data=replace(config.data, **data))

    return make_run


def test_missing_videos_end_a_run_before_it_begins(make_run, tmp_path):
    config = make_run([question("a.mp4"), question("c.mp4"), question("d.mp4", "Who?")])
    message = (
        rf"2 of 3 items of .*records\.json cannot be read: 2 files that are missing or empty, the "
        rf"first: c\.mp4: No such file or directory \(data\.media_root is {tmp_path}\)\. That is "
        r"more than data\.max_unreadable_share = 0\.05"
    )
    with pytest.raises(InvalidRequestError, match=message):
        train(config)
    assert not config.out.exists()


def test_all_processes_must_see_one_folder(make_run, monkeypatch):
    """What a process of another node answers whose disk is its own."""
    monkeypatch.setattr(Processes, "gather", lambda self, sees: [sees, False, sees, False])
    message = r"out .*run must lie on a file system that all nodes share; processes 1, 3 do not"
    with pytest.raises(InvalidRequestError, match=message):
        train(make_run([question("a.mp4")]))


def test_a_question_that_is_asked_twice_is_told_once(make_run, caplog):
    records = [question("a.mp4"), question("a.mp4", frame_num=[1]), question("b.mp4")]
    check_records(make_run(records))
    (record,) = caplog.records
    assert (
        "1 records repeat video and question of an earlier one, 1 of them with another frame_num; "
        "the first: records #0 and #1 about a.mp4"
    ) in record.getMessage()


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        pytest.param(
            [question("a.mp4")], "frame_num of all 1 records is empty", id="nothing_to_rank"
        ),
        pytest.param(
            [question("c.mp4", frame_num=[0])],
            r"1 of 1 videos of validation\.records .* the first: c\.mp4: No such file or directory "
            r"\(validation\.media_root is",
            id="missing",
        ),
        pytest.param(
            [{"video": "a.mp4", "question": "What?"}],
            r"validation\.records: .*record 0: frame_num must be",
            id="malformed",
        ),
    ],
)
def test_records_to_validate_on_are_looked_at_too(make_run, validation, message):
    with pytest.raises(InvalidRequestError, match=message):
        train(make_run([question("a.mp4")], validation=validation))


def test_a_video_to_validate_on_that_is_trained_on_is_told(make_run, tmp_path, caplog):
    (tmp_path / "c.mp4").write_bytes(b"never opened")
    held_out = [question("c.mp4", frame_num=[0]), question("./b.mp4")]
    check_records(make_run([question("a.mp4"), question("b.mp4")], validation=held_out))
    assert [record.getMessage() for record in caplog.records] == [
        f"1 of 2 videos of validation.records {tmp_path / 'validation.json'} are trained on, the "
        "first: ./b.mp4; the figures will be better than on other videos"
    ]

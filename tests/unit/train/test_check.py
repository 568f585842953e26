"""What `train check` finds that its command's tests do not reach."""

import json
from dataclasses import replace

import pytest

from groundserve.errors import InvalidRequestError
from tests.unit.train.data.samples import question, write_video
from tests.unit.train.runs import make_config
from train.check import check


@pytest.fixture
def make_run(tmp_path):
    """Return a config over records about `a.mp4`, 4 seconds."""
    write_video(tmp_path / "a.mp4", num_frames=40)

    def make_run(records, *, auxiliary_weight=0.0, **data):
        (tmp_path / "records.json").write_text(json.dumps(records))
        config = make_config(tmp_path / "run", auxiliary_weight=auxiliary_weight)
        changes = {"records": tmp_path / "records.json", "media_root": tmp_path, **data}
        return replace(config, data=replace(config.data, **changes))

    return make_run


def test_a_sound_run_is_usable(make_run, tmp_path):
    seen = []
    report = check(
        make_run([question("a.mp4", f"{i}?") for i in range(5)]),
        num_sampled=3,
        on_progress=lambda *progress: seen.append(progress),
    )
    assert report.is_usable
    assert report.warnings == ()
    assert report.lost_share == 0
    assert [fault.num_looked_at for fault in report.faults] == [5, 5, 5, 3]
    assert seen == [("files", 1, 1), ("samples", 1, 3), ("samples", 2, 3), ("samples", 3, 3)]
    assert list(tmp_path.glob("run*")) == []  # nothing was written


def test_a_run_that_could_not_begin_is_refused(make_run):
    config = make_run([question("a.mp4")], auxiliary_weight=0.5)
    with pytest.raises(InvalidRequestError, match=r"auxiliary_weight is 0\.5"):
        check(config)
    with pytest.raises(InvalidRequestError, match="labels count sampled frames"):
        check(make_run([question("a.mp4")], sample_fps=None))


@pytest.mark.parametrize("name", ["out", "data.frame_cache"])
@pytest.mark.parametrize("below", ["deeper/still"])
def test_a_folder_that_cannot_be_made_is_told(make_run, tmp_path, name, below):
    config = make_run([question("a.mp4")])
    taken = tmp_path / "a.mp4" / below
    if name == "out":
        config = replace(config, out=taken)
    else:
        config = replace(config, data=replace(config.data, frame_cache=taken))
    with pytest.raises(InvalidRequestError, match=rf"{name} must be a folder .*a\.mp4 is in the"):
        check(config)

import json

import pytest

from tests.unit.train.data.samples import conversation, question
from train.data.durations import main
from train.data.records import read_records


def test_every_entry_with_a_readable_video_has_its_duration(tmp_path, media_root, caplog):
    entries = [
        question("long.mp4", "Who?"),
        question("a.mp4"),
        question("missing.mp4"),
        question("long.mp4", "What?", duration="0:06"),
        conversation("Who?", "I", image="a.png"),
        "no entry",
    ]
    (tmp_path / "in.json").write_text(json.dumps(entries))
    given = [str(tmp_path / "in.json"), "--media-root", str(media_root), "--num-workers", "2"]
    main([*given, "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert [e.get("duration") for e in found[:5]] == [6.0, 3.0, None, 6.0, None]
    assert found[5] == "no entry"
    assert found[1] == {**entries[1], "duration": 3.0}
    assert f"cannot read {media_root}/missing.mp4" in caplog.text
    records = read_records(tmp_path / "out.json", stage="grounding").records
    assert [record.duration for record in records[:4]] == [6.0, 3.0, None, 6.0]


def test_what_is_no_data_file_is_refused(tmp_path, media_root, capsys):
    (tmp_path / "in.json").write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "in.json"), "--media-root", str(media_root), "--out", "unused"])
    assert "must be a JSON list of at least one record" in capsys.readouterr().err.splitlines()[-1]


def test_a_file_is_replaced_when_all_is_known(tmp_path, media_root, monkeypatch):
    """Amid hours of opening videos, an interrupt loses nothing of what was there."""
    path = tmp_path / "in.json"
    before = json.dumps([question("a.mp4")])
    path.write_text(before)

    def interrupted(reader, name):
        raise KeyboardInterrupt

    monkeypatch.setattr("train.data.durations.video_seconds", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main([str(path), "--media-root", str(media_root), "--out", str(path)])
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["in.json"]
    assert path.read_text() == before

"""records.jsonl: the reference's lines, in the manifest's order."""

import json

import pytest

from groundserve.batch.plan import Plan
from groundserve.batch.records import write_records
from groundserve.batch.storage import open_storage
from groundserve.options import ScoreOptions
from groundserve.records import make_record, read_records
from tests.unit.batch.making import FINGERPRINT, make_corpus, make_row, run, score


def lines_of(out):
    return [json.loads(line) for line in (out / "records.jsonl").read_bytes().splitlines()]


def test_lines_are_the_reference_s_in_the_manifests_order(tmp_path):
    rows = make_corpus(tmp_path / "videos", num_videos=3, num_queries=2)
    out = tmp_path / "out"
    run(out, rows)
    lines = lines_of(out)
    assert [line["doc_id"] for line in lines] == [row.id for row in rows]
    for line, row in zip(lines, rows, strict=True):
        result = score(row.video[:1].encode(), [row.query], ScoreOptions())
        record = make_record(result, result.queries[0], doc_id=row.id)
        assert line == {**json.loads(record.to_json_line()), "video_path": row.video}
    assert list(read_records(out / "records.jsonl")) == [row.id for row in rows]


def test_ids_are_numbers_where_they_were_written_as_such(tmp_path):
    video = tmp_path / "a.mp4"
    video.touch()
    ids = ["12", "-1", "007", " 8", "٣", "a\0\n\u2028", "1" * 5000]
    rows = [
        make_row(video, f"q\0\u2028 {id}", id=id, position=position)
        for position, id in enumerate(ids)
    ]
    run(tmp_path / "out", rows)
    lines = lines_of(tmp_path / "out")
    assert [line["doc_id"] for line in lines] == [12, -1, *ids[2:]]
    assert [line["contexts"] for line in lines] == [row.query for row in rows]


@pytest.mark.parametrize("piece_bytes", [1, 700, 10**6])
def test_pieces_are_merged(tmp_path, piece_bytes):
    """Rows whose videos take turns, so that no shard is in the manifest's order."""
    rows = make_corpus(tmp_path / "videos", num_videos=3, num_queries=4)
    out = tmp_path / "out"
    run(out, rows)
    expected = (out / "records.jsonl").read_bytes()
    storage = open_storage(str(out))
    with Plan.make(rows, fingerprint=FINGERPRINT) as plan:
        assert write_records(storage, plan, piece_bytes=piece_bytes) == len(rows)
    assert (out / "records.jsonl").read_bytes() == expected

"""records.jsonl: the reference's lines, in the manifest's order."""

import json

from groundserve.options import ScoreOptions
from groundserve.records import make_record, read_records
from tests.unit.batch.making import make_corpus, make_row, run, score


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

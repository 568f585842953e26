"""The file appears whole, or not at all; options that are of no use are refused."""

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.exports import ExportOptions, check_options, export
from groundserve.exports.export import write_lines
from tests.unit.exports.made import BIKES, TALK, write_batch, write_records


@pytest.fixture
def scored(tmp_path):
    return write_batch(tmp_path / "scored", BIKES, TALK)


def test_the_source_is_never_written_over(tmp_path):
    records = write_records(tmp_path / "records.jsonl", BIKES)
    before = records.read_bytes()
    with pytest.raises(InvalidRequestError, match="--out must not be the source"):
        export(records, records, "lmms-eval", replace=True)
    assert records.read_bytes() == before


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("theirs")
    with pytest.raises(InvalidRequestError, match="exists"):
        write_lines(out, [b"{}"], is_list=False, replace=False)
    assert out.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["no/such/out.jsonl", "scored"])
def test_a_place_that_cannot_be_written_is_refused_first(name, scored, tmp_path):
    with pytest.raises(InvalidRequestError, match="cannot write"):
        export(tmp_path / "no source either", tmp_path / name, "lmms-eval")


@pytest.mark.parametrize(
    ("export_format", "options", "message"),
    [
        ("lmms-eval", {"top_k": 8}, "--top-k goes with --order time"),
        ("lmms-eval", {"order": "time", "selector": "spread"}, "--selector goes with --top-k"),
        ("qvhighlights", {"top_k": 8}, "--top-k is for lmms-eval, openai, llava"),
        ("openai", {"image_form": "file"}, "pictures as files need a folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(export_format, options, message):
    with pytest.raises(InvalidRequestError, match=message):
        check_options(export_format, ExportOptions(**options))

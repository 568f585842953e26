import json

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.records import make_doc_id, make_record, make_selection_record
from tests.support.results import make_result


def test_record_is_the_references():
    result = make_result()
    assert make_record(result, result.queries[0], doc_id=7).to_json_line() == (
        '{"index": [25, 50, 0, 75], "logits": [0.88, 0.88, 0.62, 0.27], "num_frames": 1, '
        '"contexts": "Où est le vélo ?", "video_path": "bikes.mp4", "doc_id": 7}'
    )


@pytest.mark.parametrize(("top_k", "index"), [(1, [25]), (9, [0, 25, 50, 75])])
def test_selection_has_the_chosen_frames_in_time_order(top_k, index):
    (query,) = make_result(top_k=top_k).queries
    line = make_selection_record(query, doc_id=7).to_json_line()
    assert line == json.dumps({"doc_id": 7, "index": index})


@pytest.mark.parametrize("doc_id", ["bikes-0123456789ab", "7", True])
def test_selection_refuses_an_id_that_its_readers_do_not_know(doc_id):
    (query,) = make_result().queries
    with pytest.raises(InvalidRequestError, match="must be the question's number in its benchmark"):
        make_selection_record(query, doc_id=doc_id)


@pytest.mark.parametrize("doc_id", [1.5, True, None])
def test_record_refuses_an_id_that_nobody_could_read(doc_id):
    result = make_result()
    with pytest.raises(InvalidRequestError, match="doc_id must be a whole number or text, got "):
        make_record(result, result.queries[0], doc_id=doc_id)


@pytest.mark.parametrize(
    ("video", "name"),
    [
        ("v/-1.mp4", "1"),
        ("v/١٢.mp4", "١٢"),
        ("v/\udcff\udcfe.mp4", "video"),
        ("v/" + "x" * 200 + ".mp4", "x" * 40),
    ],
)
def test_id_is_short_text_that_no_reader_takes_for_a_number(video, name):
    doc_id = make_doc_id(video, "When?")
    assert doc_id[:-13] == name
    doc_id.encode()
    with pytest.raises(ValueError, match="invalid literal"):
        int(doc_id)

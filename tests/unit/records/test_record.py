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


@pytest.mark.parametrize("doc_id", ["bikes-0123456789ab", "7", True])
def test_selection_refuses_an_id_that_its_readers_do_not_know(doc_id):
    (query,) = make_result().queries
    with pytest.raises(InvalidRequestError, match="must be the question's number in its benchmark"):
        make_selection_record(query, doc_id=doc_id)


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

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundserve.errors import InvalidRequestError
from train.convert import json_list
from train.convert.json_list import iterate_json_list

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)  # busy machines are slow
@given(
    values=st.lists(VALUES, max_size=5),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
    mark=st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_a_list_is_read_in_chunks_of_any_size(
    tmp_path_factory, values, chunk, indent, ascii_only, mark
):
    path = tmp_path_factory.mktemp("list") / "list.json"
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    path.write_text(f"{text} \n", mark)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_list, "CHUNK_CHARS", chunk)
        assert list(iterate_json_list(path)) == values


@pytest.mark.parametrize(
    ("text", "message", "num_before"),
    [
        pytest.param("", r"\[ is expected, got the end of the file", 0, id="empty"),
        pytest.param("[1, 2", "value 1 must be JSON with , or ] behind it, got '2'", 1, id="ends"),
        pytest.param("[1, ]", "value 1 must be JSON .*, got ']'", 1, id="trailing_comma"),
        pytest.param("[1] 2", "nothing may follow the list, got '2'", 1, id="more"),
    ],
)
def test_anything_else_is_refused(tmp_path, text, message, num_before):
    path = tmp_path / "list.json"
    path.write_text(text)
    values = []
    with pytest.raises(InvalidRequestError, match=message):
        values.extend(iterate_json_list(path))
    assert len(values) == num_before

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundserve.errors import InvalidRequestError
from train.convert.records import iterate_json_list

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)  # busy machines are slow
@given(
    values=st.lists(VALUES, max_size=5),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
    mark=st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_a_list_is_read_value_by_value(tmp_path_factory, values, indent, ascii_only, mark):
    path = tmp_path_factory.mktemp("list") / "list.json"
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    path.write_text(f"{text} \n", mark)
    assert list(iterate_json_list(path)) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "premature EOF", id="empty"),
        pytest.param("[1, 2", "premature EOF", id="ends"),
        pytest.param("[1, ]", "unallowed token", id="trailing_comma"),
        pytest.param("[1] 2", "trailing garbage", id="more"),
        pytest.param('{"item": 1}', "must be a JSON list, it begins with start_map", id="object"),
    ],
)
def test_anything_else_is_refused(tmp_path, text, message):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match=message):
        list(iterate_json_list(path))

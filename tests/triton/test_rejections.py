"""What the server refuses, with which code, in which words."""

from __future__ import annotations

import pytest

from tests.triton.protocol import RejectedError, texts, upload

NOT_ALLOWED = "VIDEO_URI must name a readable file below one of this server's allowed roots"


def refused(protocol, model, inputs, **kwargs) -> RejectedError:
    with pytest.raises(RejectedError) as caught:
        protocol.infer(model, inputs, **kwargs)
    return caught.value


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param(
            {"VIDEO_URI": texts("file:///a.mp4")},
            "give exactly one of VIDEO and VIDEO_URI, got both",
            id="both_videos",
        ),
        pytest.param({"VIDEO": upload(b"")}, "the video is empty (0 bytes)", id="empty_video"),
        pytest.param(
            {"OPTIONS": texts("{")}, "OPTIONS must be one JSON object in UTF-8", id="bad_json"
        ),
        pytest.param(
            {"OPTIONS": texts('{"fps": 1}')},
            'unknown option "fps"; known options: num_frames, sample_fps, sampling, seek, top_k, '
            "selector",
            id="unknown_option",
        ),
        pytest.param({"QUERY": texts()}, "QUERY must hold 1..32 questions, got 0", id="no_query"),
    ],
)
def test_bad_requests_name_the_rule(protocol, clips, changed, message):
    inputs = {
        "VIDEO": upload(clips["carphone_pristine"].read_bytes()),
        "QUERY": texts("When?"),
        **changed,
    }
    present = {name: array for name, array in inputs.items() if array is not None}
    rejection = refused(protocol, "videoitg", present)
    assert rejection == RejectedError("INVALID_ARG", f"in ensemble 'videoitg', {message}")


def test_without_a_question_nothing_is_decoded(served, protocol, clips):
    decodes = 'nv_inference_request_success{model="video_decode",version="1"}'
    before = served.metrics()[decodes]
    refused(protocol, "videoitg", {"VIDEO": upload(clips["carphone_pristine"].read_bytes())})
    assert served.metrics()[decodes] == before


@pytest.mark.parametrize(
    ("uri", "code", "message"),
    [
        pytest.param(
            "https://example.com/a.mp4?token=secret",
            "UNSUPPORTED",
            "VIDEO_URI must be a file: URI; this server fetches nothing over http(s)",
            id="https",
        ),
        pytest.param("file:///etc/hostname", "INVALID_ARG", NOT_ALLOWED, id="outside"),
        pytest.param("{root}/link%20out.mp4", "INVALID_ARG", NOT_ALLOWED, id="link_leads_out"),
    ],
)
def test_uris_that_may_not_be_read(protocol, video_root, uri, code, message):
    inputs = {"VIDEO_URI": texts(uri.format(root=video_root.as_uri())), "QUERY": texts("When?")}
    rejection = refused(protocol, "videoitg", inputs)
    assert rejection == RejectedError(code, f"in ensemble 'videoitg', {message}")


def test_error_of_an_inner_model_keeps_code_and_text(protocol, clips):
    """The index is whole, so that only the call to `video_decode` sees the damage."""
    data = bytearray(clips["carphone_pristine"].read_bytes())
    start = data.index(b"mdat") + 8
    data[start + 1000 : start + 200_000] = bytes(199_000)
    inputs = {"VIDEO": upload(bytes(data)), "QUERY": texts("When?")}
    rejection = refused(protocol, "videoitg", inputs)
    assert rejection.code == "INVALID_ARG"
    assert rejection.message.startswith("in ensemble 'videoitg', frame ")
    assert rejection.message.endswith("does not decode: the video is damaged there")


def test_own_timeout_ends_a_request(protocol, clips):
    inputs = {
        "VIDEO": upload(clips["bikes"].read_bytes()),
        "QUERY": texts("When?"),
        "OPTIONS": texts('{"sample_fps": 20, "sampling": "infer"}'),
    }
    rejection = refused(protocol, "videoitg", inputs, timeout_microseconds=100_000)
    assert rejection.code == "UNAVAILABLE"
    assert "within" in rejection.message

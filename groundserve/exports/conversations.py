"""A question and its frames as Video-LLMs are asked: OpenAI's messages, LLaVA's conversations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from groundserve.errors import InvalidRequestError
from groundserve.exports.pictures import Picture
from groundserve.exports.rows import ExportRow, ScoredFrames
from groundserve.limits import MIB
from groundserve.records.record import DocId

ImageForm = Literal["data", "file"]

MAX_LINE_BYTES = 64 * MIB
"""Of one question's messages, its pictures included: what is longer no server is likely to take."""
LLAVA_IMAGE = "<image>"
"""What readers replace by a picture, wherever it stands."""


def openai_line(
    row_id: DocId,
    row: ExportRow,
    scored: ScoredFrames,
    pictures: Sequence[Picture],
    seconds: Sequence[float],
    *,
    image_form: ImageForm,
) -> str:
    """Return one question as messages of OpenAI's chat completions, without its newline.

    One user message: what the pictures are, then each picture behind the time at which it is shown,
    then the question.

    Args:
        row_id: Stands beside the messages, as `id`.
        row: The question.
        scored: Of the same row.
        pictures: K' of them, in time order.
        seconds: When each is shown.
        image_form: "data" puts the pictures into the line, in base64; "file" names their files by
            `file:` URLs, which a server must be allowed to read (vLLM's
            `--allowed-local-media-path`; vllm-project/vllm 02ba96d,
            `vllm/multimodal/media/connector.py`).

    Raises:
        InvalidRequestError: The line would be longer than `MAX_LINE_BYTES`.
    """
    content: list[dict[str, Any]] = [_text(introduction(len(pictures), scored.duration_seconds))]
    size = 0
    for picture, shown_at in zip(pictures, seconds, strict=True):
        url = _url(picture, image_form)
        size += len(url)
        if size > MAX_LINE_BYTES:
            raise InvalidRequestError(
                f"{row.place}: {len(pictures)} pictures take more than {MAX_LINE_BYTES} bytes in "
                "one message; hand over fewer (--top-k), or smaller ones (--frames-side)"
            )
        content.append(_text(f"{shown_at:.2f} s:"))
        content.append({"type": "image_url", "image_url": {"url": url}})
    content.append(_text(row.query))
    messages = [{"role": "user", "content": content}]
    return json.dumps({"id": row_id, "messages": messages}, ensure_ascii=False)


def check_llava(row: ExportRow) -> None:
    """Refuse a question that holds `<image>`, for which there would be no picture.

    Raises:
        InvalidRequestError: It does.
    """
    if LLAVA_IMAGE in row.query:
        raise InvalidRequestError(
            f"{row.place}: the question holds {LLAVA_IMAGE}, which readers would replace by a "
            "picture; change it"
        )


def llava_line(row_id: DocId, row: ExportRow, pictures: Sequence[Picture]) -> str:
    """Return one question, which `check_llava` has passed, as an element of LLaVA's JSON list.

    `image` has the pictures' paths from their folder; the human's turn has `<image>` for each, in
    time order, and the question. There is no second turn: what is right is not known here.

    Source: LLaVA-VL/LLaVA-NeXT df17966, `llava/train/train.py::LazySupervisedDataset`, which joins
    each name to its `image_folder`. Of a `video` it samples frames itself, so none is named.
    """
    asked = f"{LLAVA_IMAGE}\n" * len(pictures) + row.query
    fields = {
        "id": row_id,
        "image": [picture.name for picture in pictures],
        "conversations": [{"from": "human", "value": asked}],
    }
    return json.dumps(fields, ensure_ascii=False)


def introduction(num_frames: int, duration_seconds: float) -> str:
    """Return what a model is told of the pictures to come."""
    what = "1 frame" if num_frames == 1 else f"{num_frames} frames"
    return (
        f"{what} of a video of {duration_seconds:.2f} s, in time order, "
        "each behind the time at which it is shown."
    )


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _url(picture: Picture, image_form: ImageForm) -> str:
    if image_form == "data":
        return picture.data_url()
    assert picture.path is not None, "files were asked for"
    return picture.path.as_uri()

"""One question as a line of each format, without its newline; non-ASCII text is kept.

Shape letters: T sampled frames, C clips of two seconds, K' frames shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qvhighlights import CLIP_SECONDS
from groundserve.exports.options import ImageForm
from groundserve.exports.pictures import Picture
from groundserve.exports.rows import ExportRow, ScoredFrames
from groundserve.families.videoitg.sampling import sample_frames
from groundserve.limits import MIB
from groundserve.options import DEFAULT_NUM_FRAMES
from groundserve.records.record import DocId
from groundserve.spans import Span, find_spans

BENCHMARK_SAMPLING = f"rule B at 1 frame a second, at most {DEFAULT_NUM_FRAMES} frames"
"""How published numbers are sampled; `score` and `batch` sample so unless told otherwise."""
MAX_LINE_BYTES = 64 * MIB
"""Longest messages of one question, its pictures included, that a server is likely to take."""
_LLAVA_IMAGE = "<image>"
"""What readers replace by a picture, wherever it stands."""


def lmms_eval_line(doc_id: DocId, frames: NDArray[np.int64]) -> str:
    """Return a question's number and the frames to show, for the forks of lmms-eval.

    Their readers keep the first line of a `doc_id`, take the first K entries of `index`, and sort
    them. `frames` are int64 ordinals: all T best first, or those to be shown, increasing.

    Source: NVlabs/VideoITG fab8b54, `lmms_eval/models/internvl2.py`,
    `lmms_eval/models/internvl3_5.py`, `lmms_eval/models/qwen3_vl.py`,
    `lmms_eval/models/eagle2_5.py`, `lmms_eval/models/llava_onevision.py`,
    `lmms_eval/models/qwen2_vl.py`.
    """
    return json.dumps({"doc_id": doc_id, "index": frames.tolist()})


def is_benchmark_sampled(scored: ScoredFrames) -> bool:
    """Tell whether the frames that were scored are those that the published numbers rest on.

    A short video has fewer than 512, and "seek": "keyframe" gives others.
    """
    try:
        expected = sample_frames(
            scored.num_source_frames,
            scored.fps,
            sampling="eval",
            sample_fps=1.0,
            num_frames=DEFAULT_NUM_FRAMES,
        )
    except InvalidRequestError:  # fewer than half a frame a second: the reference raises too
        return False
    return np.array_equal(scored.frame_indices, expected)


def qvhighlights_line(query_id: DocId, row: ExportRow, scored: ScoredFrames) -> str:
    """Return predictions as `evaluation.qvhighlights` reads them.

    `vid` is the video's name without folder and ending, as the benchmark's are named.
    """
    fields = {
        "qid": query_id,
        "query": row.query,
        "vid": Path(row.video).stem,
        "pred_relevant_windows": [list(span) for span in _rank_windows(scored)],
        "pred_saliency_scores": clip_scores(scored).tolist(),
    }
    return json.dumps(fields, ensure_ascii=False)


def clip_scores(scored: ScoredFrames) -> NDArray[np.float64]:
    """Return the saliency of each clip of two seconds, from the start to the end of the video.

    A clip has the best score of the frames shown in it; where none of them was sampled, that of the
    frame before, which stands for the time until the next. The last of the C >= 1 clips may be cut
    short by the end; an evaluator that counts whole clips ignores it.
    """
    pts, scores = scored.pts_seconds, scored.frame_scores
    end = max(scored.duration_seconds, float(pts[-1]))
    num_clips = max(1, math.ceil(end / CLIP_SECONDS))
    # (C,): the frames of clip i are first[i] .. past[i] - 1.
    first = np.searchsorted(pts, np.arange(num_clips) * CLIP_SECONDS, side="left")
    past = np.append(first[1:], len(pts))
    return np.array(
        [
            scores[a:b].max() if a < b else scores[max(0, a - 1)]
            for a, b in zip(first.tolist(), past.tolist(), strict=True)
        ]
    )


def openai_line(
    row_id: DocId,
    row: ExportRow,
    scored: ScoredFrames,
    shown: Sequence[tuple[int, Picture]],
    *,
    image_form: ImageForm,
) -> str:
    """Return one question as messages of OpenAI's chat completions.

    A server must be allowed to read `file:` URLs (vLLM's `--allowed-local-media-path`;
    vllm-project/vllm 02ba96d, `vllm/multimodal/media/connector.py`).

    Args:
        row_id: Stands beside the messages, as `id`.
        row: The question.
        scored: Its frames.
        shown: Ordinal and picture of each of the K' frames, in time order.
        image_form: Whether pictures stand in the line, in base64, or their `file:` URLs do.
    """
    frames = "1 frame" if len(shown) == 1 else f"{len(shown)} frames"
    about = (
        f"{frames} of a video of {scored.duration_seconds:.2f} s, in time order, "
        "each behind the time at which it is shown."
    )
    content: list[dict[str, Any]] = [{"type": "text", "text": about}]
    size = 0
    for ordinal, picture in shown:
        url = picture.data_url() if image_form == "data" else picture.path.as_uri()
        size += len(url)
        if size > MAX_LINE_BYTES:
            raise InvalidRequestError(
                f"{row.place}: {len(shown)} pictures take more than {MAX_LINE_BYTES} bytes in "
                "one message; hand over fewer (--top-k), or smaller ones (--frames-side)"
            )
        # `frame_indices` increases and holds them all, so the search finds each exactly.
        seconds = scored.pts_seconds[np.searchsorted(scored.frame_indices, ordinal)]
        content.append({"type": "text", "text": f"{seconds:.2f} s:"})
        content.append({"type": "image_url", "image_url": {"url": url}})
    content.append({"type": "text", "text": row.query})
    messages = [{"role": "user", "content": content}]
    return json.dumps({"id": row_id, "messages": messages}, ensure_ascii=False)


def check_llava(row: ExportRow) -> None:
    """Refuse a question that holds `<image>`, for which there would be no picture."""
    if _LLAVA_IMAGE in row.query:
        raise InvalidRequestError(
            f"{row.place}: the question holds {_LLAVA_IMAGE}, which readers would replace by a "
            "picture; change it"
        )


def llava_line(row_id: DocId, row: ExportRow, pictures: Sequence[Picture]) -> str:
    """Return one question, which `check_llava` has passed, as an element of LLaVA's JSON list.

    There is no second turn: what is right is not known here.

    Source: LLaVA-VL/LLaVA-NeXT df17966, `llava/train/train.py::LazySupervisedDataset`, which joins
    each name to its `image_folder`. Of a `video` it samples frames itself, so none is named.
    """
    asked = f"{_LLAVA_IMAGE}\n" * len(pictures) + row.query
    fields = {
        "id": row_id,
        "image": [picture.name for picture in pictures],
        "conversations": [{"from": "human", "value": asked}],
    }
    return json.dumps(fields, ensure_ascii=False)


def _rank_windows(scored: ScoredFrames) -> list[Span]:
    """Return a question's spans, best first, and never none.

    The benchmark's evaluator takes the first window of each query, and raises where a list is empty
    (jayleicn/moment_detr b7e553a, `standalone_eval/eval.py::compute_mr_r1`); its mAP leaves such
    queries out of the mean. So where no frame reaches the threshold, the stretches of the frames
    with the best score stand in.
    """
    frame_scores = scored.frame_scores.astype(np.float32)
    spans = scored.spans or find_spans(
        frame_scores,
        scored.pts_seconds,
        duration_seconds=scored.duration_seconds,
        span_threshold=float(frame_scores.max()),
    )
    return sorted(spans, key=lambda span: -span.score)  # stable: in time order where equal

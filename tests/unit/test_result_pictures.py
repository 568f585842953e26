"""What results draw, cut and show in a notebook, and that their JSON reads back."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from groundserve import AnswerResult, GroundserveError, ScoreResult
from groundserve.answers import Moment
from groundserve.subtitles import cues_of, webvtt_text
from tests.support.results import make_answer, make_answers, make_info, make_result


@pytest.fixture
def scores(clips):
    return replace(make_result(str(clips["bikes"])), info=make_info(duration_seconds=4.0, fps=25.0))


@pytest.fixture
def answers():
    moments = (Moment(start_seconds=1.0, end_seconds=2.0, score=3.5, text="<b>bold</b> & more"),)
    return make_answers(make_answer("who", moments=moments))


def test_json_reads_back(scores, answers):
    for result, kind in ((scores, ScoreResult), (answers, AnswerResult)):
        text = json.dumps(result.to_json())
        read = kind.from_json(text)
        assert json.dumps(read.to_json()) == text
        with pytest.raises(GroundserveError, match="another form"):
            kind.from_json(json.dumps(result.to_json() | {"frame_indices": "x"}))
    assert read.frame_indices.dtype == np.int64


def test_plots_have_a_row_for_each_question(scores, answers):
    assert [axis.get_title(loc="left") for axis in scores.plot().axes] == ["Où est le vélo ?"]
    assert [axis.get_title(loc="left") for axis in answers.plot().axes] == ["who"]


def test_the_contact_sheet_has_the_selected_frames(scores):
    titles = [axis.get_title() for axis in scores.contact_sheet().axes if axis.images]
    selected = scores.queries[0].selected_frames
    assert [title.rsplit(" ", 1)[1] for title in titles] == [str(one) for one in selected]


def test_a_span_is_cut_out_of_the_video(scores):
    span = scores.queries[0].spans[0]
    with av.open(io.BytesIO(scores.clip(span))) as clip:
        seconds = float(clip.streams.video[0].duration * clip.streams.video[0].time_base)
    # From the frame shown at the start to the one at the end, both included.
    assert seconds == pytest.approx(span.end_seconds - span.start_seconds + 1 / 25, abs=1e-3)


def test_notebooks_show_texts_and_a_plot(scores, answers):
    for result in (scores, answers):
        page = result._repr_html_()
        (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
        assert Image.open(io.BytesIO(base64.b64decode(picture))).format == "PNG"
    assert "<p>" in page


def test_webvtt_has_no_markup_of_the_models(answers):
    assert webvtt_text(cues_of(answers)) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n&lt;b&gt;bold&lt;/b&gt; &amp; more\n"
    )

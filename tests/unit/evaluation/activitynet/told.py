"""A model that answers in text, and always the same; and what its captions are alike."""

from __future__ import annotations

import numpy as np

from groundserve.answers import Answer, AnswerResult, GenerationInfo, Moment
from tests.support.results import make_info

DURATION = 30.0
"""Of any video, in seconds."""


class Told:
    """Tells the second tenth of a video to any question; what it is asked is kept."""

    def __init__(self, stop_reason="eos", *, score=None):
        self.asked = []
        self.stop_reason = stop_reason
        self.score = score

    def ask(self, video, queries=(), options=None, *, timeout_seconds=None):
        self.asked.append((video, list(queries), options))
        moment = Moment(
            start_seconds=DURATION / 10, end_seconds=DURATION / 5, score=self.score, text="Told"
        )
        answers = [
            Answer(
                query=query,
                task=options.task,
                prompt_token_ids=np.zeros(1, np.int32),
                token_ids=np.zeros(1, np.int32),
                text=f"From 10 to 20, {query}",
                moments=() if query == "All" else (moment,),
                stop_reason=self.stop_reason,
            )
            for query in list(queries) or [""]
        ]
        generation = GenerationInfo(
            prefix_tokens=1,
            prompt_tokens=1,
            generated_tokens=1,
            seed=None,
            time_range_seconds=(0.0, DURATION),
            stop_reasons=(self.stop_reason,) * len(answers),
            is_read=(True,) * len(answers),
        )
        return AnswerResult(
            video=str(video),
            info=make_info(duration_seconds=DURATION),
            frame_indices=np.zeros(1, np.int64),
            pts_seconds=np.zeros(1),
            answers=answers,
            generation=generation,
        )


class Alike:
    """Takes every two captions for alike, wholly or by a share, in the place of Java."""

    def __init__(self, share=1.0):
        self.share = share

    def tokenize(self, captions):
        return {caption: caption.lower().strip(" .") for caption in captions}

    def meteor(self, pairs):
        return self.share, [self.share] * len(pairs)

"""The stages of VidThinker for one question: clips described, clips retrieved, frames chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.annotate.annotation import (
    NO_CLUE,
    NO_FRAME,
    Annotation,
    clip_frames,
    num_clips,
)
from groundserve.annotate.calls import CallEndedError, Calls
from groundserve.annotate.items import Asked
from groundserve.annotate.replies import (
    Clips,
    Existence,
    Motion,
    Proposals,
    Type,
    Verdicts,
    json_reader,
    read_text,
)
from groundserve.annotate.rules import Stage
from groundserve.annotate.settings import Settings
from groundserve.annotate.thinning import thin_as_paper, thin_as_script
from groundserve.data_record import CLIP_SECONDS
from groundserve.frames import data_url

_Out = TypeVar("_Out")
_ALIKE = {
    "paper": "If several clips look alike, choose all of them.",
    "all": "If several clips look alike, choose all of them.",
    "script": "If several clips look alike, choose the first two of them.",
}


class Shown(Protocol):
    """A video as the stages see it."""

    @property
    def jpegs(self) -> Sequence[bytes]:
        """Its T frames at one a second."""

    @property
    def duration_seconds(self) -> float:
        """What it lasts."""

    def clip_mp4(self, clip: int) -> bytes:
        """Return a clip as a file."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Asks models about one question after the other; calls that can be made together are."""

    settings: Settings
    calls: Calls
    features: Callable[[Sequence[bytes]], NDArray[np.float32]] | None
    """Of pictures, by which they are thinned: (T, D); None where none are."""
    map: Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]
    """Calls a function with each of several things."""

    def propose(self, video: Shown) -> list[Asked]:
        """Return questions about a video; raises CallEndedError."""
        rules = self.settings.rules
        last, number = len(video.jpegs) - 1, min(rules.proposal_frames, len(video.jpegs))
        places = np.linspace(0, last, number).round().astype(int).tolist()
        text = self._text(
            "propose", seconds=f"{video.duration_seconds:.0f}", number=rules.proposals
        )
        content = [*(_picture(video.jpegs[place]) for place in places), text]
        read = json_reader(Proposals, lambda reply: reply.questions[: rules.proposals])
        found = self.calls.ask("propose", content, read)
        return [Asked(one.question, one.answer) for one in found]

    def annotate(self, asked: Asked, video: Shown) -> Annotation:
        """Return what the stages find; a call without a usable reply ends them, and is noted."""
        note = Annotation(question=asked.question, answer=asked.answer)
        try:
            self._classify(note)
            pool = self._pool(note, video)
            if not note.dropped:
                self._choose(note, pool, video)
                self._localise(note, video)
        except CallEndedError as ended:
            note.state, note.message = ended.state, str(ended)
        return note

    def _classify(self, note: Annotation) -> None:
        if self.settings.rules.choice == "script":
            is_motion = (
                self._ask(note, "motion", json_reader(Motion, lambda it: it.motion)) == "Yes"
            )
            note.type = "motion" if is_motion else "semantic"
        else:
            note.type = self._ask(note, "type", json_reader(Type, lambda it: it.type))
        read = json_reader(Existence, lambda it: it.existence)
        note.existence = self._ask(note, "existence", read) == "Yes"

    def _pool(self, note: Annotation, video: Shown) -> list[int]:
        """Return the frames to choose from: those of the clips, or all of the video."""
        num_frames = len(video.jpegs)
        everything = list(range(num_frames))
        if note.type == "non_clue":
            note.clips = list(range(num_clips(num_frames)))
            return everything
        note.phrase = self._ask(note, "phrase", read_text)

        def describe(clip: int) -> str:
            return self._caption(note, video, clip)

        note.captions = list(self.map(describe, range(num_clips(num_frames))))
        note.clips = self._retrieve(note)
        if not note.clips and note.existence:
            return everything
        note.dropped = "" if note.clips else NO_CLUE
        return clip_frames(note.clips, num_frames)

    def _caption(self, note: Annotation, video: Shown, clip: int) -> str:
        frames = clip_frames([clip], len(video.jpegs))
        if self.settings.asked["caption"].sends == "video":
            url = data_url(video.clip_mp4(clip), "video/mp4")
            shown: list[dict[str, Any]] = [{"type": "video_url", "video_url": {"url": url}}]
        else:
            shown = [_picture(video.jpegs[frame]) for frame in frames]
        text = self._text("caption", seconds=CLIP_SECONDS, phrase=note.phrase)
        return self.calls.ask("caption", [*shown, text], read_text)

    def _retrieve(self, note: Annotation) -> list[int]:
        rules = self.settings.rules
        # The script beside the data keeps the answer from this stage, the paper does not.
        answer_line = "" if rules.choice == "script" else f"Answer: {note.answer}\n"
        text = self._text(
            "retrieve",
            seconds=CLIP_SECONDS,
            captions=_lines(note.captions, range(len(note.captions))),
            question=note.question,
            answer_line=answer_line,
            alike_rule=_ALIKE[rules.choice],
        )

        def use(reply: Clips) -> list[int]:
            clips = reply.numbers(range(len(note.captions)))
            note.explanation = reply.explanation
            return clips

        found: list[int] = self.calls.ask("retrieve", [text], json_reader(Clips, use))
        return found

    def _choose(self, note: Annotation, pool: Sequence[int], video: Shown) -> None:
        """Note which frames of the pool are judged, by the question's type."""
        rules = self.settings.rules
        dense: set[int] = set()
        if not rules.thins or (note.type == "motion" and note.clips):
            dense = set(pool)
        elif note.type == "both" and note.clips:
            dense = set(clip_frames(self._motion_clips(note), len(video.jpegs)))
        sparse = [frame for frame in pool if frame not in dense]
        kept = self._thin([video.jpegs[frame] for frame in sparse]) if sparse else []
        note.candidates = sorted(dense | {sparse[place] for place in kept})
        note.thinned = sorted(set(pool) - set(note.candidates))

    def _thin(self, jpegs: Sequence[bytes]) -> list[int]:
        """Return the places of the pictures that are kept, at least one."""
        assert self.features is not None, "it is there where frames are thinned"
        rules, features = self.settings.rules, self.features(jpegs)
        if rules.choice == "paper":
            return thin_as_paper(features, scene_threshold=rules.scene_threshold)
        return thin_as_script(
            features,
            scene_threshold=rules.scene_threshold,
            diversity_threshold=rules.diversity_threshold,
        )

    def _motion_clips(self, note: Annotation) -> list[int]:
        text = self._text(
            "motion_clips",
            captions=_lines(note.captions, note.clips),
            question=note.question,
            answer=note.answer,
        )
        read = json_reader(Clips, lambda reply: reply.numbers(note.clips))
        found: list[int] = self.calls.ask("motion_clips", [text], read)
        return found

    def _localise(self, note: Annotation, video: Shown) -> None:
        step = self.settings.rules.frames_per_call
        parts = [note.candidates[at : at + step] for at in range(0, len(note.candidates), step)]

        def judge(frames: Sequence[int]) -> Any:
            content: list[Any] = []
            for frame in frames:
                content.append({"type": "text", "text": f"Frame {frame}:"})
                content.append(_picture(video.jpegs[frame]))
            numbers = ", ".join(map(str, frames))
            own = {"question": note.question, "answer": note.answer, "numbers": numbers}
            content.append(self._text("localise", **own))
            read = json_reader(Verdicts, lambda reply: reply.of(frames))
            return self.calls.ask("localise", content, read)

        verdicts = [one for found in self.map(judge, parts) for one in found]
        relevant = [one for one in verdicts if one.relevant == "Yes"]
        note.frames = [one.frame for one in relevant]
        note.reasons = [one.reason for one in relevant]
        if not note.frames and not note.existence:
            note.dropped = NO_FRAME

    def _ask(self, note: Annotation, stage: Stage, read: Callable[[str], _Out]) -> _Out:
        """Ask what a question and its answer alone tell."""
        text = self._text(stage, question=note.question, answer=note.answer)
        return self.calls.ask(stage, [text], read)

    def _text(self, stage: Stage, **values: object) -> dict[str, str]:
        return {"type": "text", "text": self.settings.prompts.fill(stage, **values)}


def _lines(captions: Sequence[str], clips: Iterable[int]) -> str:
    return "\n".join(f"**Clip-{clip}**: {captions[clip]}" for clip in clips)


def _picture(jpeg: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(jpeg), "detail": "low"}}

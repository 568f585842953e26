"""The stages of VidThinker for one question: clips described, clips retrieved, frames chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.annotate.annotation import Annotation, clip_frames
from groundserve.annotate.calls import CallEndedError, Calls
from groundserve.annotate.items import Asked
from groundserve.annotate.prompts import fill
from groundserve.annotate.replies import (
    Clips,
    Existence,
    Motion,
    Proposals,
    Type,
    Verdict,
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
_PROPOSAL_FRAMES = 16


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
        number, num_frames = self.settings.rules.proposals, len(video.jpegs)
        places = np.linspace(0, num_frames - 1, min(_PROPOSAL_FRAMES, num_frames)).round()
        text = self._text("propose", seconds=f"{video.duration_seconds:.0f}", number=number)
        content = [*(_picture(video.jpegs[int(place)]) for place in places), text]
        read = json_reader(Proposals, lambda reply: reply.questions[:number])
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
            note.state, note.dropped = ended.state, f"{ended.state}: {ended}"
        return note

    def _classify(self, note: Annotation) -> None:
        if self.settings.rules.choice == "script":
            is_motion = self._ask(note, "motion", json_reader(Motion, lambda it: it.motion))
            note.type = "motion" if is_motion == "Yes" else "semantic"
        else:
            note.type = self._ask(note, "type", json_reader(Type, lambda it: it.type))
        read = json_reader(Existence, lambda it: it.existence)
        note.existence = self._ask(note, "existence", read) == "Yes"

    def _pool(self, note: Annotation, video: Shown) -> list[int]:
        """Return the frames to choose from: those of the clips, or all of the video."""
        num_frames = len(video.jpegs)
        everything, clips = list(range(num_frames)), range(-(-num_frames // CLIP_SECONDS))
        if note.type == "non_clue":
            note.clips = list(clips)
            return everything
        note.phrase = self._ask(note, "phrase", read_text)
        note.captions = list(self.map(lambda clip: self._caption(note, video, clip), clips))
        self._retrieve(note)
        if not note.clips and note.existence:
            return everything
        note.dropped = "" if note.clips else "no clip helps"
        return clip_frames(note.clips, num_frames)

    def _caption(self, note: Annotation, video: Shown, clip: int) -> str:
        if self.settings.sends_video:
            url = data_url(video.clip_mp4(clip), "video/mp4")
            shown: list[dict[str, Any]] = [{"type": "video_url", "video_url": {"url": url}}]
        else:
            shown = [_picture(video.jpegs[it]) for it in clip_frames([clip], len(video.jpegs))]
        text = self._text("caption", seconds=CLIP_SECONDS, phrase=note.phrase)
        return self.calls.ask("caption", [*shown, text], read_text)

    def _retrieve(self, note: Annotation) -> None:
        # The script beside the data keeps the answer from this stage, the paper does not.
        is_script = self.settings.rules.choice == "script"
        captions = (f"**Clip-{clip}**: {text}" for clip, text in enumerate(note.captions))
        text = self._text(
            "retrieve",
            seconds=CLIP_SECONDS,
            captions="\n".join(captions),
            question=note.question,
            answer_line="" if is_script else f"Answer: {note.answer}\n",
            alike="the first two of them" if is_script else "all of them",
        )

        def use(reply: Clips) -> tuple[list[int], str]:
            return reply.numbers(len(note.captions)), reply.explanation

        note.clips, note.explanation = self.calls.ask("retrieve", [text], json_reader(Clips, use))

    def _choose(self, note: Annotation, pool: Sequence[int], video: Shown) -> None:
        """Note which frames are judged, by the question's type."""
        is_dense = note.type in ("motion", "both") and bool(note.clips)
        dense = set(pool) if is_dense or self.features is None else set()
        if note.type == "both" and self.features is not None:
            pool = range(len(video.jpegs))  # few of the frames elsewhere, too
        sparse = [frame for frame in pool if frame not in dense]
        kept = self._thin([video.jpegs[frame] for frame in sparse]) if sparse else []
        note.candidates = sorted(dense | {sparse[place] for place in kept})
        note.thinned = sorted(set(pool) - set(note.candidates))

    def _thin(self, jpegs: Sequence[bytes]) -> list[int]:
        """Return the places of the pictures that are kept, at least one."""
        assert self.features is not None, "it is there where frames are thinned"
        rules, features = self.settings.rules, self.features(jpegs)
        scene, diversity = rules.scene_threshold, rules.diversity_threshold
        if rules.choice == "paper":
            return thin_as_paper(features, scene_threshold=scene)
        return thin_as_script(features, scene_threshold=scene, diversity_threshold=diversity)

    def _localise(self, note: Annotation, video: Shown) -> None:
        def judge(frames: Sequence[int]) -> list[Verdict]:
            content: list[dict[str, Any]] = []
            for frame in frames:
                content.append({"type": "text", "text": f"Frame {frame}:"})
                content.append(_picture(video.jpegs[frame]))
            own = {"question": note.question, "answer": note.answer}
            content.append(self._text("localise", **own, numbers=", ".join(map(str, frames))))
            read = json_reader(Verdicts, lambda reply: reply.of(frames))
            found: list[Verdict] = self.calls.ask("localise", content, read)
            return found

        step = self.settings.rules.frames_per_call
        parts = [note.candidates[at : at + step] for at in range(0, len(note.candidates), step)]
        relevant = [it for found in self.map(judge, parts) for it in found if it.relevant == "Yes"]
        note.frames = [one.frame for one in relevant]
        note.reasons = [one.reason for one in relevant]
        if not note.frames and not note.existence:
            note.dropped = "no frame helps"

    def _ask(self, note: Annotation, stage: Stage, read: Callable[[str], _Out]) -> _Out:
        """Ask what a question and its answer alone tell."""
        text = self._text(stage, question=note.question, answer=note.answer)
        return self.calls.ask(stage, [text], read)

    def _text(self, stage: Stage, **values: object) -> dict[str, str]:
        return {"type": "text", "text": fill(self.settings.prompts[stage], **values)}


def _picture(jpeg: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(jpeg), "detail": "low"}}

"""The stages of VidThinker for one question: clips described, clips retrieved, frames chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundserve.annotate.annotation import Annotation, clip_frames
from groundserve.annotate.calls import CallEndedError, Calls
from groundserve.annotate.items import Asked
from groundserve.annotate.prompts import Stage, fill
from groundserve.annotate.replies import Verdict
from groundserve.annotate.settings import Settings
from groundserve.annotate.thinning import ClipFeatures, thin_as_paper, thin_as_script
from groundserve.annotate.video import OpenedVideo
from groundserve.data_record import CLIP_SECONDS
from groundserve.frames import data_url

_PROPOSAL_FRAMES = 16


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Asks models about one question after the other; calls that can be made together are."""

    settings: Settings
    calls: Calls
    features: ClipFeatures | None
    """By which frames are thinned; None where none are."""
    map: Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]
    """Calls a function with each of several things."""

    def propose(self, video: OpenedVideo) -> list[Asked]:
        """Return questions about a video; raises CallEndedError."""
        number, num_frames = self.settings.rules.proposals, len(video.jpegs)
        places = np.linspace(0, num_frames - 1, min(_PROPOSAL_FRAMES, num_frames)).round()
        text = self._text("propose", seconds=f"{video.duration_seconds:.0f}", number=number)
        content = [*(_picture(video.jpegs[int(place)]) for place in places), text]
        found = self.calls.ask("propose", content).questions[:number]
        return [Asked(one.question, one.answer) for one in found]

    def annotate(self, asked: Asked, video: OpenedVideo) -> Annotation:
        """Return what the stages find; a call without a usable reply ends them, and is noted."""
        note = Annotation(question=asked.question, answer=asked.answer)
        try:
            self._classify(note)
            pool = self._pool(note, video)
            if not note.dropped:
                self._choose(note, pool, video)
                self._localise(note, video)
        except CallEndedError as ended:
            note.state, note.dropped = ended.state, str(ended)
        return note

    def _classify(self, note: Annotation) -> None:
        if self.settings.rules.choice == "script":
            is_motion = self._ask(note, "motion").motion == "Yes"
            note.type = "motion" if is_motion else "semantic"
        else:
            note.type = self._ask(note, "type").type
        note.existence = self._ask(note, "existence").existence == "Yes"

    def _pool(self, note: Annotation, video: OpenedVideo) -> list[int]:
        """Return the frames to choose from: those of the clips, or all of the video."""
        num_frames = len(video.jpegs)
        everything, clips = list(range(num_frames)), range(-(-num_frames // CLIP_SECONDS))
        if note.type == "non_clue":
            note.clips = list(clips)
            return everything
        note.phrase = self._ask(note, "phrase")
        note.captions = list(self.map(lambda clip: self._caption(note, video, clip), clips))
        self._retrieve(note)
        if not note.clips and note.existence:
            return everything
        note.dropped = "" if note.clips else "no clip helps"
        return clip_frames(note.clips, num_frames)

    def _caption(self, note: Annotation, video: OpenedVideo, clip: int) -> str:
        if self.settings.sends_video:
            url = data_url(video.clip_mp4(clip), "video/mp4")
            shown: list[dict[str, Any]] = [{"type": "video_url", "video_url": {"url": url}}]
        else:
            shown = [_picture(video.jpegs[it]) for it in clip_frames([clip], len(video.jpegs))]
        text = self._text("caption", seconds=CLIP_SECONDS, phrase=note.phrase)
        caption: str = self.calls.ask("caption", [*shown, text])
        return caption

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

        note.clips, note.explanation = self.calls.ask(
            "retrieve", [text], lambda it: (it.numbers(len(note.captions)), it.explanation)
        )

    def _choose(self, note: Annotation, pool: Sequence[int], video: OpenedVideo) -> None:
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

    def _localise(self, note: Annotation, video: OpenedVideo) -> None:
        def judge(frames: Sequence[int]) -> list[Verdict]:
            content: list[dict[str, Any]] = []
            for frame in frames:
                content.append({"type": "text", "text": f"Frame {frame}:"})
                content.append(_picture(video.jpegs[frame]))
            own = {"question": note.question, "answer": note.answer}
            content.append(self._text("localise", **own, numbers=", ".join(map(str, frames))))
            found: list[Verdict] = self.calls.ask("localise", content, lambda it: it.of(frames))
            return found

        step = self.settings.rules.frames_per_call
        parts = [note.candidates[at : at + step] for at in range(0, len(note.candidates), step)]
        relevant = [it for found in self.map(judge, parts) for it in found if it.relevant == "Yes"]
        note.frames = [one.frame for one in relevant]
        note.reasons = [one.reason for one in relevant]
        if not note.frames and not note.existence:
            note.dropped = "no frame helps"

    def _ask(self, note: Annotation, stage: Stage) -> Any:
        """Ask what a question and its answer alone tell."""
        return self.calls.ask(
            stage, [self._text(stage, question=note.question, answer=note.answer)]
        )

    def _text(self, stage: Stage, **values: object) -> dict[str, str]:
        return {"type": "text", "text": fill(self.settings.prompts[stage], **values)}


def _picture(jpeg: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(jpeg), "detail": "low"}}

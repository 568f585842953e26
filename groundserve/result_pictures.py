"""What a result shows of itself, and cuts out of its video."""

from __future__ import annotations

from typing import Any, cast

from groundserve.arguments import Video


class Pictured:
    """A result about one video, with pictures; what draws them is imported when it is used."""

    video: str

    def plot(self) -> Any:
        """Draw each question's scores, or its moments, over time.

        Returns:
            A figure of matplotlib.

        Raises:
            MissingExtraError: Matplotlib is not installed.
        """
        from groundserve import visuals

        return visuals.plot(cast(Any, self))

    def clip(self, span: tuple[float, ...], video: Video | None = None) -> bytes:
        """Return a stretch of the video as MP4 (H.264), from one exact frame to another.

        Args:
            span: One of the result's spans, or another start and end in seconds, at most 600 apart.
            video: Path of the file, or its bytes; `self.video` where None.

        Raises:
            InvalidRequestError: The times are no stretch of the video.
            MediaError: The file cannot be read.
            MissingExtraError: PyAV is not installed.
        """
        from groundserve.clips import read_clip

        return read_clip(self.video if video is None else video, span[0], span[1])

    def _repr_html_(self) -> str:
        from groundserve import visuals

        return visuals.notebook_html(cast(Any, self))

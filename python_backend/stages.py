"""Whoever opens the stages of a request: what `Pipeline` asks of a directory or a checkpoint."""

from __future__ import annotations

from typing import Protocol

from groundserve.errors import UnsupportedError
from groundserve.families.base import QueryTokenizer
from groundserve.manifest import Manifest
from groundserve.media import MediaWorkers
from groundserve.media.resize import ResizeRule
from python_backend.decode import FrameDecoder
from python_backend.encode import VisionEncoder
from python_backend.ground import Grounder
from python_backend.meter import Meter


class Stages(Protocol):
    """The stages of one model; each is opened when it is asked for."""

    @property
    def manifest(self) -> Manifest:
        """What is opened."""

    def open_decoder(
        self, workers: MediaWorkers, *, meter: Meter, num_threads: int
    ) -> FrameDecoder:
        """Open the decode stage on workers whose deaths are counted.

        Args:
            workers: Processes in which FFmpeg decodes.
            meter: Where work is counted.
            num_threads: Segments that DALI decodes side by side.
        """

    def open_encoder(self, *, num_threads: int) -> VisionEncoder:
        """Open the vision stage; PyTorch's threads are those of the whole process."""

    def open_grounder(self, *, num_threads: int) -> Grounder:
        """Open the grounding stage; PyTorch's threads are those of the whole process."""

    def open_tokenizer(self) -> QueryTokenizer:
        """Open the model's tokenizer."""


def decoded_frames(manifest: Manifest) -> tuple[int, ResizeRule]:
    """Return the side in pixels of the square frames that the decode stage gives, and their rule.

    Raises:
        UnsupportedError: The family takes several streams, or frames of no fixed size.
    """
    streams = manifest.seam.streams(manifest.model)
    if len(streams) != 1 or streams[0].size is None:
        sizes = ", ".join(f"{stream.name} ({stream.size or 'any size'})" for stream in streams)
        raise UnsupportedError(
            "one stream of frames in a fixed size is decoded, the family "
            f"{manifest.family} takes {sizes}"
        )
    return streams[0].size, streams[0].resize

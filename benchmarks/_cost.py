"""What a video costs by stage, what a cluster of so many nodes gets through, and what holds it up.

A stage's time is taken to be proportional to what it works on: packets, pictures decoded, frames
kept, operations. What that leaves out are constants of a call, which batches of hours do not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.size import Size
from groundserve.families.videoitg.sampling import sample_frames

Origin = Literal["measured", "computed", "given"]
"""Of a number: timed on a machine; arithmetic over published or measured ones; chosen by the user.
The fourth, "simulated", is `benchmarks.corpus_simulation`'s."""
NETWORKS = ("encode", "ground")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number with where it comes from."""

    value: float
    """The number."""
    unit: str
    """Of it."""
    origin: Origin
    """What it is worth."""
    source: str
    """Which file, or which publication."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a report holds."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video as far as its cost goes."""

    duration_seconds: float
    """Its length."""
    fps: float
    """Pictures a second."""
    gop: int
    """Pictures from a key frame to the next."""
    bytes_per_second: float
    """Of the file."""

    @property
    def num_pictures(self) -> int:
        """All of them."""
        return max(1, round(self.duration_seconds * self.fps))

    @property
    def num_bytes(self) -> int:
        """Of the file."""
        return round(self.duration_seconds * self.bytes_per_second)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a video."""

    num_frames: int = 512
    """Frames kept at most."""
    sample_fps: float = 1.0
    """Frames a second aimed at."""
    num_questions: int = 1
    """Answered from one decoding and encoding."""

    def frames_of(self, video: Video) -> NDArray[np.int64]:
        """Return the ordinals that are decoded."""
        return sample_frames(
            video.num_pictures,
            video.fps,
            sampling="eval",
            sample_fps=self.sample_fps,
            num_frames=self.num_frames,
        )


def num_decoded(frame_indices: NDArray[np.int64], gop: int) -> int:
    """Return how many pictures are decoded: from each key frame to its last target.

    Those that no target needs are not taken off: the measured rate has them in it, in the share
    that the measured file had.
    """
    groups, places = np.divmod(frame_indices, gop)
    is_last = np.append(groups[1:] != groups[:-1], True)
    return int((places[is_last] + 1).sum())


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds of one core, or one GPU, that a piece of each stage's work takes."""

    probe_packet: Figure
    """Reading a packet's place and time."""
    cut_picture: Figure
    """Copying a packet that will be decoded into a segment."""
    decode_picture: Figure
    """Decoding a picture, kept or not."""
    pixels_frame: Figure
    """Converting and resizing a kept frame."""
    encode_flop: Figure
    """An operation of the vision encoder."""
    ground_flop: Figure
    """An operation of projector and decoder."""
    select_frame: Figure
    """Choosing among the frames, for one question."""
    call: Figure
    """What a request through a server takes more, whatever its size."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a report holds."""
        return {name: figure.to_dict() for name, figure in vars(self).items()}


def stage_seconds(video: Video, request: Request, rates: Rates, size: Size) -> dict[str, float]:
    """Return the seconds of a core, or a GPU, that each stage of one video takes.

    Args:
        video: The video.
        request: What is asked.
        rates: Of the machine.
        size: The model's dimensions.
    """
    frames = request.frames_of(video)
    num_frames, num_pictures = len(frames), num_decoded(frames, video.gop)
    ground_flop = size.grounding_flop(num_frames) * request.num_questions
    return {
        "probe": rates.probe_packet.value * video.num_pictures,
        "cut": rates.cut_picture.value * num_pictures,
        "decode": rates.decode_picture.value * num_pictures + rates.pixels_frame.value * num_frames,
        "encode": rates.encode_flop.value * size.vision_flop(num_frames),
        "ground": rates.ground_flop.value * ground_flop,
        "select": rates.select_frame.value * num_frames * request.num_questions,
    }


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Nodes, and what all of them share."""

    node_units: int
    """Cores, or GPUs, of a node."""
    has_decoders: bool
    """Whether decoding has hardware of its own, beside that of the networks."""
    busy_share: float
    """Of the time, in which a core or GPU computes."""
    storage_bytes_per_second: float
    """That the store of the videos gives to all nodes together."""
    publish_seconds: float
    """That the driver takes to publish one unit; it publishes one after another."""
    node_price: float
    """Of an hour of a node."""

    def rate_limits(
        self, num_nodes: int, video: Video, seconds: Mapping[str, float], *, unit_videos: float
    ) -> dict[str, float]:
        """Return the videos a second that each part lets through; the least of them holds.

        Args:
            num_nodes: Of the cluster.
            video: Every video.
            seconds: What it takes, by stage; see `stage_seconds`.
            unit_videos: Videos that are published together.
        """
        units = num_nodes * self.node_units * self.busy_share
        networks = sum(seconds[stage] for stage in NETWORKS)
        if self.has_decoders:
            compute = {
                "hardware decoders": units / (sum(seconds.values()) - networks),
                "GPU arithmetic": units / networks,
            }
        else:
            compute = {"cores": units / sum(seconds.values())}
        return compute | {
            "storage": self.storage_bytes_per_second / video.num_bytes,
            "driver": unit_videos / self.publish_seconds,
        }

    def unit_seconds(self, seconds: Mapping[str, float]) -> float:
        """Return how long one video holds a core or a GPU, whose decoders work beside it."""
        networks = sum(seconds[stage] for stage in NETWORKS)
        total = sum(seconds.values())
        return max(networks, total - networks) if self.has_decoders else total

    def nodes_for(self, rate: float, seconds: Mapping[str, float]) -> int:
        """Return how many nodes answer so many requests a second."""
        return ceil(rate * self.unit_seconds(seconds) / (self.node_units * self.busy_share))

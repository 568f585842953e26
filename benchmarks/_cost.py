"""What a video costs by stage, what a cluster of so many nodes gets through, and what holds it up.

A stage's time is taken to be proportional to what it works on: packets, pictures decoded, frames
kept, operations. What that leaves out are constants of a call, which batches of hours do not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.size import FULL, Size
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


def measured_rates(stages: Mapping[str, Any], size: Size, *, source: str) -> tuple[Rates, Video]:
    """Read what `benchmarks.stages` measured.

    Args:
        stages: Its report.
        size: Dimensions of the model that it measured.
        source: What figures shall call it.

    Returns:
        The rates, of one core; and the video they were measured with.
    """
    results, measured = stages["results"], stages["inputs"][0]
    video = Video(
        duration_seconds=measured["num_packets"] / measured["average_fps"],
        fps=measured["average_fps"],
        gop=round(measured["num_packets"] / measured["num_key_packets"]),
        bytes_per_second=measured["bytes"] * measured["average_fps"] / measured["num_packets"],
    )
    num_frames = results["num_frames"]
    num_pictures = num_decoded(Request(num_frames=num_frames).frames_of(video), video.gop)
    cpu = {stage: float(row["cpu_seconds"]) for stage, row in results["stages"].items()}
    pixels = cpu["convert"] + cpu["resize"]  # both are parts of decode, too

    def rate(seconds: float, pieces: float, piece: str) -> Figure:
        return Figure(
            value=max(seconds, 0.0) / pieces,
            unit=f"core seconds a {piece}",
            origin="measured",
            source=source,
        )

    return (
        Rates(
            probe_packet=rate(cpu["probe"], video.num_pictures, "packet"),
            cut_picture=rate(cpu["cut"], num_pictures, "picture"),
            decode_picture=rate(cpu["decode"] - pixels, num_pictures, "picture"),
            pixels_frame=rate(pixels, num_frames, "frame"),
            encode_flop=rate(cpu["encode"], size.vision_flop(num_frames), "FLOP"),
            ground_flop=rate(cpu["ground"], size.grounding_flop(num_frames), "FLOP"),
            select_frame=rate(cpu["select"], num_frames, "frame"),
            call=rate(cpu["transport"], 1, "request"),
        ),
        video,
    )


PEAK_TFLOPS = 989.0
"""Dense bf16 peak of an H100 or H200 SXM. Source: NVIDIA's data sheets."""
PLANNED_SHARE = 0.5
"""Of the peak. Published shares of the parts: attention 0.6 to 0.65 (FlashAttention-3, arXiv
2407.08608); no figure of SigLIP so400m on this GPU is known."""
NVDEC_FPS, NUM_NVDEC = 600.0, 7
"""H.264 of 1080p, one engine: 620 of a Turing card (jlennox/NvEncSharp #4), 596 of an RTX 4060 Ti
(NVIDIA-ISAAC-ROS/isaac_ros_benchmark). An H100 has 7 (facebookresearch/spdl, docs); that its
engines are no slower is a guess."""


def gpu_rates(check: Mapping[str, Any] | None, *, source: str) -> Rates:
    """Return the rates of one GPU at the released model's size.

    Args:
        check: Report of `benchmarks.gpu_check`; published figures stand in where None.
        source: What figures shall call it.
    """
    request = None if check is None else _part(check, "main request")
    if request is None:
        peak = f"half of the {PEAK_TFLOPS:g} TFLOP/s that NVIDIA gives for bf16 on H100 and H200"
        encode = ground = Figure(
            value=1 / (PLANNED_SHARE * PEAK_TFLOPS * 1e12),
            unit="GPU seconds a FLOP",
            origin="computed",
            source=peak,
        )
    else:
        encode, ground = (
            Figure(
                value=1 / (request[stage]["tflops"] * 1e12),
                unit="GPU seconds a FLOP",
                origin="measured",
                source=source,
            )
            for stage in ("encode", "ground_is_repeat")
        )
    decode = Figure(
        value=1 / (NUM_NVDEC * NVDEC_FPS),
        unit="GPU seconds a picture",
        origin="computed",
        source=f"{NUM_NVDEC} engines (facebookresearch/spdl, docs) at {NVDEC_FPS:g} pictures a "
        "second of 1080p H.264 (jlennox/NvEncSharp #4, isaac_ros_benchmark: other cards)",
    )
    media = None if check is None else _part(check, "decode")
    decoded = [
        row["frames_per_second"]
        for name, row in (media or {}).items()
        if name.startswith("h264") and ": decode," in name and "frames_per_second" in row
    ]
    if decoded:
        decode = replace(decode, value=1 / max(decoded), origin="measured", source=source)
    none = Figure(value=0.0, unit="GPU seconds", origin="given", source="not measured: left out")
    return Rates(
        probe_packet=none,
        cut_picture=none,
        decode_picture=decode,
        pixels_frame=none,
        encode_flop=encode,
        ground_flop=ground,
        select_frame=none,
        call=none,
    )


def _part(check: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return what a part measured at full size on a GPU; None where it did not."""
    counts = check["size"] == FULL.name and check["machine"]["device"] != "cpu"
    for part in check["parts"]:
        if counts and part["part"] == name and part["status"] == "ok":
            results: Mapping[str, Any] = part["results"]
            return results
    return None

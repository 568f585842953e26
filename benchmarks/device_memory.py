"""How much of a GPU's memory does a server take, and how much does decoding a video need?

    python -m benchmarks.device_memory

Prints the tables of docs/deploy.md and docs/dali.md: computed, nothing is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine_build.triton.__main__ import LAYOUTS, REFERENCE_MODEL
from groundserve.families.videoitg import FAMILY
from groundserve.limits import GIB, Limits
from groundserve.media import StreamInfo
from groundserve.serving.device_memory import device_memory
from groundserve.serving.repository import read_configs
from groundserve.serving.video_tensors import VideoTensors
from python_backend.decode import memory

REPOSITORIES = Path(__file__).parent.parent / "triton_models"
SIZES = (
    (1280, 720, "yuv420p"),
    (1920, 1080, "yuv420p"),
    (4096, 2160, "yuv420p"),
    (7680, 4320, "yuv420p10le"),
    (8192, 8192, "yuv420p"),
    (8192, 8192, "yuv420p10le"),
)


def server_table() -> list[str]:
    """Return what the committed repository for a GPU takes of it, as Markdown."""
    configs = read_configs(REPOSITORIES / "gpu")
    total = device_memory(configs, VideoTensors.of(FAMILY, REFERENCE_MODEL, Limits()), Limits())
    one = memory.decode_memory(
        max_side_pixels=Limits().max_side_pixels,
        image_size=REFERENCE_MODEL.image_size,
        num_threads=LAYOUTS["gpu"].num_decoder_threads,
    )
    rows = [
        ("CUDA pool", total.cuda_pool_bytes),
        ("`video_decode`, a process: decoders and sessions at work", one.decoders),
        ("... frames at the size they decode to", one.frames),
        ("... one picture of 8192 x 8192 a thread", one.fill),
        ("... between the passes of a resize", one.resizing),
        ("... a chunk at the model's size", one.resized),
        ("`video_decode`, a process, at most", one.total),
        (f"pool and {total.num_decode_processes} processes", total.total_bytes),
    ]
    return _table(("", "GiB"), [(name, f"{count / GIB:.2f}") for name, count in rows])


def decoder_table() -> list[str]:
    """Return what decoding a chunk of 64 segments takes by size of the picture, as Markdown."""
    head = (
        "picture",
        "RGB pictures of a decoder",
        "of 64 at once",
        "NVDEC session",
        "decoders at once",
        "100 sessions kept",
    )
    return _table(head, [_decoder_row(*size) for size in SIZES])


def _decoder_row(width: int, height: int, pixel_format: str) -> tuple[str, ...]:
    stream = StreamInfo(
        codec_name="hevc",
        pixel_format=pixel_format,
        width=width,
        height=height,
        rotation=0,
        frame_counts=(1,),
    )
    surfaces = memory.surfaces_bytes(stream)
    at_once = min(memory.MAX_BATCH_SEGMENTS, memory.DECODERS_BYTES // memory.decoder_bytes(stream))
    bits = ", 10 bits" if pixel_format == "yuv420p10le" else ""
    return (
        f"{width} x {height}{bits}",
        _gigabytes(surfaces),
        _gigabytes(64 * surfaces),
        _gigabytes(memory.session_bytes(stream)),
        str(at_once) if at_once else "PyAV decodes it",
        _gigabytes(memory.kept_sessions_bytes(stream)) if at_once else "none",
    )


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.3g} GB"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines]


def main() -> None:
    """Print both tables."""
    for table in (server_table(), decoder_table()):
        print("\n".join(table), end="\n\n")


if __name__ == "__main__":
    main()

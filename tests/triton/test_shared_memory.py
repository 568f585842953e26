"""What a server leaves in /dev/shm while it runs: bounded, for its user alone, and given back."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from groundserve.limits import Limits
from groundserve.manifest import REPOSITORY_NAME, Manifest
from groundserve.serving.repository import read_configs
from groundserve.serving.run_folder import SHM_DIR
from groundserve.serving.shared_memory import RegionSizes, region_sizes
from groundserve.serving.video_tensors import VideoTensors
from tests.support.one_gop import one_gop_video
from tests.triton.serve import MAX_UPLOAD_BYTES, Server, in_parallel

PRIVATE_UMASK = "Umask:\t0077\n"


@pytest.fixture
def server(harmed):
    return harmed


@pytest.fixture(scope="module")
def sizes(engine_dirs) -> RegionSizes:
    configs = read_configs(engine_dirs["cpu"] / REPOSITORY_NAME)
    manifest = Manifest.load(engine_dirs["cpu"])
    limits = Limits(max_upload_bytes=MAX_UPLOAD_BYTES)
    tensors = VideoTensors.of(manifest.seam, manifest.model, limits)
    return region_sizes(configs, tensors, limits)


def video_of(path: Path, megabytes: int) -> Path:
    path.write_bytes(one_gop_video(megabytes * 10**6))
    return path


def region_bytes(server: Server) -> dict[str, list[int]]:
    """Sizes of the stubs' regions by model."""
    found: dict[str, list[int]] = {}
    for stub in server.triton.stubs():
        size = (SHM_DIR / stub.region).stat().st_size
        found[stub.model] = [*found.get(stub.model, []), size]
    return found


def test_uploads_take_no_more_than_is_demanded(server, sizes, tmp_path):
    """A region that grew by each larger upload would soon hold the room of two."""
    for megabytes in (40, 90):
        video = video_of(tmp_path / f"{megabytes}.mp4", megabytes)
        # All instances at once: each has held both when this is done.
        in_parallel(4, lambda video: server.ask(video, "When?", num_frames=64), [video] * 4)
    for model, regions in region_bytes(server).items():
        assert max(regions) <= sizes.budgets[model], model
    assert max(region_bytes(server)["front"]) > sizes.default_bytes


def test_everything_started_makes_files_for_its_user_alone(server, clips):
    server.ask(clips["carphone_pristine"], "When?", num_frames=8)
    root = psutil.Process(server.triton.pid)
    processes = [
        process
        for process in (root, *root.children(recursive=True))
        if process.status() != psutil.STATUS_ZOMBIE  # killed by a test before this one
    ]
    assert len(processes) > 1 + 10  # stubs, and workers that they started
    for process in processes:
        assert PRIVATE_UMASK in Path(f"/proc/{process.pid}/status").read_text(), process
    assert PRIVATE_UMASK not in Path("/proc/self/status").read_text()


def test_nobody_else_reads_what_a_server_wrote(server):
    """Also the regions, to which Boost gives 0644 whatever the umask is."""
    regions = {SHM_DIR / stub.region for stub in server.triton.stubs()}
    (run_folder,) = {Path(str(region).rpartition("_")[0]) for region in regions}
    assert run_folder.is_dir()
    for path in (*regions, run_folder, server.log_file):
        assert path.stat().st_mode & 0o077 == 0, path
    written = {
        file.path
        for process in psutil.Process(server.triton.pid).children(recursive=True)
        for file in process.open_files()
        if file.mode != "r"
    }
    for path in written:
        assert Path(path).stat().st_mode & 0o077 == 0, path

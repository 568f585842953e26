from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.errors import (
    DeadlineExceededError,
    MediaError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.limits import MIB, Limits
from groundserve.media import MediaWorkers, OpenVideo, VideoSource
from groundserve.media._memory import needed_address_space
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline
from tests.media_assets import H264, Asset

MakeAsset = Callable[[Asset], Path]
DecodeAsset = Callable[[Asset], list[NDArray[np.uint8]]]

# Opens a video, says so, then has its worker resize frames for minutes.
BUSY_PARENT = """
import sys, numpy as np
from groundserve.runtime.deadline import Deadline
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
workers, limits, deadline = MediaWorkers(limits=Limits()), Limits(), Deadline.after(600)
with workers.open(VideoSource.from_path(sys.argv[1], limits=limits), deadline=deadline) as video:
    segments = video.cut(np.arange(60))
    print(*workers.pids(), flush=True)
    video.decode(segments, image_size=4096)
"""


@pytest.fixture
def own_workers(limits: Limits) -> Iterator[MediaWorkers]:
    """A pool of one that a test may break."""
    with MediaWorkers(limits=limits) as workers:
        yield workers


@pytest.fixture
def open_asset(
    own_workers: MediaWorkers, make_asset: MakeAsset, limits: Limits
) -> Callable[[Asset, Deadline], object]:
    @contextmanager
    def open_asset(asset: Asset, deadline: Deadline) -> Iterator[OpenVideo]:
        with (
            VideoSource.from_path(make_asset(asset), limits=limits) as source,
            own_workers.open(source, deadline=deadline) as video,
        ):
            yield video

    return open_asset


def is_running(pid: int) -> bool:
    """Whether a process has threads left; the first thread may end before the others."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_running(pid)


def test_segments_past_a_size_are_cut_in_parts(
    workers: MediaWorkers,
    open_asset: Callable,
    decode_asset: DecodeAsset,
    deadline: Deadline,
) -> None:
    wanted = np.arange(0, 72, 3)
    with open_asset(H264, deadline) as video:
        whole = video.cut(wanted)
        assert whole.num_segments > 2
        largest = int(np.diff(whole.offsets).max())
        for max_bytes in (1, largest, len(whole.data) - 1, len(whole.data)):
            rest, parts = wanted, []
            while len(rest):
                parts.append(video.cut(rest, max_bytes=max_bytes))
                assert parts[-1].num_segments == 1 or len(parts[-1].data) <= max_bytes
                rest = rest[parts[-1].num_frames :]
            assert (len(parts) == 1) == (max_bytes == len(whole.data))
            frames = np.concatenate([video.decode(part) for part in parts])
            np.testing.assert_array_equal(frames, [decode_asset(H264)[i] for i in wanted])


def test_overrun_kills_the_worker_and_the_next_job_works(
    open_asset: Callable, own_workers: MediaWorkers
) -> None:
    with open_asset(H264, Deadline.after(60)):
        (pid,) = own_workers.pids()  # started here, so that opening below takes no time
    with open_asset(H264, Deadline.after(1)) as video:
        segments = video.cut(np.arange(60))
        with pytest.raises(DeadlineExceededError, match="the video was not read within 1 s"):
            video.decode(segments, image_size=4096)  # many seconds' work: 3 GB of frames
    assert own_workers.pids() == []
    assert not is_running(pid)
    with open_asset(H264, Deadline.after(60)) as video:
        assert video.index.num_source_frames == 72


def test_cancelled_job_ends_with_its_worker_and_the_next_job_works(
    open_asset: Callable, own_workers: MediaWorkers
) -> None:
    is_cancelled = threading.Event()
    with open_asset(H264, Deadline.after(60, is_cancelled=is_cancelled.is_set)) as video:
        (pid,) = own_workers.pids()
        segments = video.cut(np.arange(60))
        threading.Timer(0.3, is_cancelled.set).start()
        with pytest.raises(RequestCancelledError, match="cancelled by its caller"):
            video.decode(segments, image_size=4096)  # many seconds' work: 3 GB of frames
    assert own_workers.pids() == []
    assert not is_running(pid)
    with open_asset(H264, Deadline.after(60)) as video:
        assert video.index.num_source_frames == 72


def test_worker_that_has_nothing_to_do_for_a_cancelled_request_lives_on(
    open_asset: Callable, own_workers: MediaWorkers
) -> None:
    is_cancelled = threading.Event()
    with open_asset(H264, Deadline.after(60, is_cancelled=is_cancelled.is_set)) as video:
        (pid,) = own_workers.pids()
        is_cancelled.set()
        with pytest.raises(RequestCancelledError):
            video.cut(np.array([0]))
    assert own_workers.pids() == [pid]


def test_wait_for_a_worker_ends_when_the_request_is_cancelled(open_asset: Callable) -> None:
    asked = iter([False, False, False, True])
    with (
        open_asset(H264, Deadline.after(60)),
        pytest.raises(RequestCancelledError),
        open_asset(H264, Deadline.after(60, is_cancelled=lambda: next(asked))),
    ):
        pass


def test_worker_that_stopped_answering_is_killed_too(
    open_asset: Callable, own_workers: MediaWorkers
) -> None:
    with open_asset(H264, Deadline.after(60)):
        (pid,) = own_workers.pids()
    with open_asset(H264, Deadline.after(3)) as video:
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(DeadlineExceededError):
            video.cut(np.array([0]))
    assert not is_running(pid)


def test_kill_9_during_a_job_is_one_unavailable_error(
    open_asset: Callable, own_workers: MediaWorkers, deadline: Deadline
) -> None:
    with open_asset(H264, deadline) as video:
        (pid,) = own_workers.pids()
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(UnavailableError, match="decoder process died while reading this"):
            video.decode(video.cut(np.arange(60)), image_size=4096)
        killer.join()
    with open_asset(H264, deadline) as video:
        assert video.index.num_source_frames == 72


def test_worker_that_dies_as_a_job_is_sent_is_replaced_silently(
    open_asset: Callable, own_workers: MediaWorkers, deadline: Deadline
) -> None:
    """Killed so shortly before that it is not seen to be dead yet."""
    for _ in range(3):
        with open_asset(H264, deadline) as video:
            segments = video.cut(np.array([0]))
        os.kill(own_workers.pids()[0], signal.SIGKILL)
        assert own_workers.decode(segments, deadline=deadline).shape == (1, 64, 96, 3)


def test_death_of_the_parent_ends_a_busy_worker(make_asset: MakeAsset) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY_PARENT, str(make_asset(H264))], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        assert is_running(pid)
        parent.kill()
        parent.wait()
        assert wait_until_gone(pid, 60)


def test_memory_ceiling_is_a_typed_error(
    make_asset: MakeAsset, limits: Limits, deadline: Deadline
) -> None:
    with (
        MediaWorkers(limits=limits, address_space_bytes=1024 * MIB) as workers,
        VideoSource.from_path(make_asset(H264), limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        segments = video.cut(np.arange(60))
        with pytest.raises(MediaError, match=r"takes more memory than .*1073741824 bytes"):
            video.decode(segments, image_size=4096)
        assert video.decode(segments, image_size=8).shape == (60, 8, 8, 3)


def test_busy_pool_waits_until_the_deadline(
    open_asset: Callable, own_workers: MediaWorkers, deadline: Deadline
) -> None:
    with open_asset(H264, deadline) as video:
        segments = video.cut(np.array([0]))
        with pytest.raises(DeadlineExceededError, match="all 1 decoder processes stayed busy"):
            own_workers.decode(segments, deadline=Deadline.after(0.1))
    assert own_workers.decode(segments, deadline=deadline).shape == (1, 64, 96, 3)


def test_threads_share_a_pool(
    make_asset: MakeAsset, decode_asset: DecodeAsset, limits: Limits, deadline: Deadline
) -> None:
    def read(i: int) -> NDArray[np.uint8]:
        with (
            VideoSource.from_path(make_asset(H264), limits=limits) as source,
            workers.open(source, deadline=deadline) as video,
        ):
            segments = video.cut(np.array([i]))
        return workers.decode(segments, deadline=deadline)[0]

    ordinals = list(range(0, 72, 3))
    with MediaWorkers(limits=limits, num_workers=2) as workers, ThreadPoolExecutor(6) as threads:
        frames = list(threads.map(read, ordinals))
        assert len(workers.pids()) == 2
    np.testing.assert_array_equal(frames, [decode_asset(H264)[i] for i in ordinals])


def test_close_ends_workers_and_jobs(
    open_asset: Callable, own_workers: MediaWorkers, deadline: Deadline
) -> None:
    with open_asset(H264, deadline) as video:
        (pid,) = own_workers.pids()
        threading.Timer(0.3, own_workers.close).start()
        with pytest.raises(UnavailableError):
            video.decode(video.cut(np.arange(60)), image_size=4096)
    assert not is_running(pid)
    with (
        pytest.raises(UnavailableError, match="the decoder processes are closed"),
        open_asset(H264, deadline),
    ):
        pass


def test_two_openings_do_not_share_an_offset(
    make_asset: MakeAsset, limits: Limits, deadline: Deadline
) -> None:
    with (
        MediaWorkers(limits=limits, num_workers=2) as workers,
        VideoSource.from_path(make_asset(H264), limits=limits) as source,
        workers.open(source, deadline=deadline) as one,
        workers.open(source, deadline=deadline) as other,
    ):
        assert os.lseek(source.fileno(), 0, os.SEEK_CUR) == 0
        for i in (50, 3, 60):
            np.testing.assert_array_equal(
                one.decode(one.cut(np.array([i]))), other.decode(other.cut(np.array([i])))
            )


def test_no_descriptor_leaks(
    open_asset: Callable, own_workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> None:
    def count() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in ("self", *own_workers.pids())]

    def use() -> None:
        with open_asset(H264, deadline) as video:
            video.cut(np.array([0, 40]))
        with (
            VideoSource.from_bytes(b"not a video", limits=limits) as source,
            pytest.raises(MediaError),
            own_workers.open(source, deadline=deadline),
        ):
            pass

    use()
    before = count()
    for _ in range(10):
        use()
    assert count() == before


def test_worker_is_confined(
    open_asset: Callable, own_workers: MediaWorkers, deadline: Deadline, tmp_path: Path
) -> None:
    with (
        (tmp_path / "secret").open("w") as secret,
        open_asset(H264, deadline),
    ):
        os.set_inheritable(secret.fileno(), True)
        (pid,) = own_workers.pids()
        proc = Path(f"/proc/{pid}")
        links = [os.readlink(link) for link in (proc / "fd").iterdir()]
        limits = (proc / "limits").read_text()
        environment = (proc / "environ").read_text()
        session = os.getsid(pid)
    assert secret.name not in links
    assert sum(link.startswith("socket:") for link in links) == 1
    assert limits.split("Max file size")[1].split()[:2] == ["0", "0"]
    assert limits.split("Max core file size")[1].split()[:2] == ["0", "0"]
    num_bytes = needed_address_space(own_workers.limits, num_threads=min(8, available_cpus()))
    assert limits.split("Max address space")[1].split()[0] == str(num_bytes)
    assert limits.split("Max cpu time")[1].split()[0] != "unlimited"
    names = {entry.partition("=")[0] for entry in environment.split("\0") if entry}
    malloc = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
    assert names == {"PATH", "PYTHONPATH", "LANG", "OPENBLAS_NUM_THREADS", *malloc}
    assert session == pid

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundserve.serving.run_folder import RunFolder, remove_dead


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_only_this_user_looks_into_a_folder_and_it_goes_with_its_regions(tmp_path):
    other = tmp_path / "groundserve_1_0000000000000000_region"
    other.write_bytes(b"another server's")
    folder = RunFolder.create(tmp_path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    region = tmp_path / f"{folder.region_prefix}region"
    region.write_bytes(b"question")
    assert folder.regions() == [region]
    folder.remove()
    assert names(tmp_path) == {other.name}


def test_regions_become_private(tmp_path):
    folder = RunFolder.create(tmp_path)
    region = tmp_path / f"{folder.region_prefix}region"
    region.write_bytes(b"question")
    region.chmod(0o644)
    folder.make_regions_private()
    assert region.stat().st_mode & 0o777 == 0o600
    folder.remove()


def test_links_and_other_names_are_left_alone(tmp_path):
    parent, elsewhere = tmp_path / "shm", tmp_path / "elsewhere"
    parent.mkdir()
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    name = "groundserve_1_0123456789abcdef"
    (parent / name).symlink_to(elsewhere)
    (parent / f"{name}_region").symlink_to(elsewhere / "lock")
    (parent / "groundserve_notes").mkdir()
    (parent / "groundserve_2_0123456789abcdef").write_bytes(b"a file")
    before = names(parent)
    remove_dead(parent)
    assert names(parent) == before
    assert names(elsewhere) == {"lock"}


def test_links_among_the_regions_of_a_dead_server_are_not_followed(tmp_path):
    kept = tmp_path / "kept"
    kept.write_bytes(b"data")
    parent = tmp_path / "shm"
    parent.mkdir()
    folder = RunFolder.create(parent)
    (folder.path / "link").symlink_to(tmp_path)
    link = parent / f"{folder.region_prefix}region"
    link.symlink_to(kept)
    os.close(folder.lock_fd)
    remove_dead(parent)
    assert names(parent) == {link.name}
    assert kept.read_bytes() == b"data"


def test_a_process_of_a_dead_keeper_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("groundserve.serving.run_folder._ENDING_SECONDS", 0.1)
    keeper = """
import subprocess, sys
from pathlib import Path
from groundserve.serving.run_folder import RunFolder
folder = RunFolder.create(Path(sys.argv[1]))
stub = [sys.executable, "-c", "import time; time.sleep(600)", str(folder.path / "stub")]
nowhere = subprocess.DEVNULL
subprocess.Popen(stub, pass_fds=[folder.lock_fd], stdout=nowhere, stderr=nowhere)
"""
    command = [sys.executable, "-c", keeper, str(tmp_path)]
    subprocess.run(command, capture_output=True, check=True)
    remove_dead(tmp_path)
    assert names(tmp_path) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
def test_another_users_files_are_left_alone(tmp_path):
    foreign = RunFolder.create(tmp_path)
    region = tmp_path / f"{foreign.region_prefix}region"
    region.write_bytes(b"theirs")
    os.close(foreign.lock_fd)
    for path in (foreign.path, region):
        os.chown(path, 12345, 12345)
    ours = RunFolder.create(tmp_path)
    planted = tmp_path / f"{ours.region_prefix}region"
    planted.write_bytes(b"theirs")
    os.chown(planted, 12345, 12345)
    os.close(ours.lock_fd)
    remove_dead(tmp_path)
    assert names(tmp_path) == {foreign.path.name, region.name, planted.name}

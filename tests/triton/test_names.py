"""Names of files in any locale: they are bytes, and a server that decodes ASCII only opens them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from groundserve import Client
from groundserve.errors import InvalidRequestError

GROUNDSERVE = [sys.executable, "-c", "from groundserve.cli.main import main; main()"]
NAMES = ("été €.mp4".encode(), b"\xff\xfe.mp4")
ASCII_ONLY = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def videos(clips, tmp_path_factory) -> bytes:
    """A folder whose name is not UTF-8, with files of both kinds."""
    folder = os.path.join(
        os.fsencode(tmp_path_factory.mktemp("videos")), "vidéos".encode() + b"\xff"
    )
    os.mkdir(folder)
    for name in NAMES:
        shutil.copyfile(clips["carphone_pristine"], os.path.join(folder, name))
    return folder


@pytest.fixture(
    scope="module",
    params=[{"LC_ALL": "C", **ASCII_ONLY}],
)
def locale(request) -> dict[str, str]:
    """Environment of the server and of the command line."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))
    }
    return {**kept, **request.param}


@pytest.fixture(scope="module")
def address(engine_dirs, videos, locale, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("sérver")
    (folder / "cäche").mkdir(mode=0o700)
    arguments = ["--json", "--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    arguments += ["--engines", engine_dirs["cpu"], "--cache-dir", folder / "cäche"]
    arguments += ["--allow-root", videos, "--log-file", folder / "lög"]
    with subprocess.Popen(
        [*GROUNDSERVE, "serve", *arguments],
        env=locale,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        try:
            address = json.loads(program.stdout.readline())["grpc"]
            yield address
            # A line in the log for certain, whichever tests ran.
            with Client(address) as client:
                client.score(
                    Path(os.fsdecode(os.path.join(videos, NAMES[0]))).read_bytes(), "When?"
                )
        finally:
            program.terminate()
    log = (folder / "lög").read_bytes()
    assert b"outcome" in log  # the line of a request
    assert not [name for name in (*NAMES, *map(quote, NAMES)) if os.fsencode(name) in log]


@pytest.mark.parametrize("name", NAMES, ids=["utf_8", "bytes"])
def test_a_file_is_named_by_uri_and_uploaded(address, videos, name):
    path = os.path.join(videos, name)
    uri = "file://" + quote(path)
    with Client(address) as client:
        by_uri = [client.score(queries="When?", video_uri=uri) for _ in range(2)]
        uploaded = client.score(os.fsdecode(path), "When?")
        with pytest.raises(InvalidRequestError, match="must name a readable file below"):
            client.score(queries="When?", video_uri=uri + "%FF")
        if name == NAMES[0]:  # text may stand as it is, in UTF-8
            client.score(queries="When?", video_uri="file://" + quote(videos) + f"/{name.decode()}")
        else:
            with pytest.raises(InvalidRequestError, match=r"VIDEO_URI\[0\] must be UTF-8"):
                client.score(queries="When?", video_uri="file://" + os.fsdecode(path))
    assert uploaded.num_source_frames == by_uri[0].num_source_frames == 120
    assert "decode" in by_uri[0].timing_ms
    assert "decode" not in by_uri[1].timing_ms, "the second time the file is known"


@pytest.mark.parametrize("name", NAMES, ids=["utf_8", "bytes"])
def test_command_line_scores_it(address, videos, locale, name, tmp_path):
    path = os.path.join(videos, name)
    command = [*GROUNDSERVE, "score", path, "--query", "When?", "--server", address]
    scored = subprocess.run(
        [*command, "--json", "--jsonl", tmp_path / "records.jsonl"],
        env=locale,
        capture_output=True,
        check=True,
    )
    result = json.loads(scored.stdout.splitlines()[-1])
    (record,) = (tmp_path / "records.jsonl").read_text("utf-8").splitlines()
    for shown in (result["video"], json.loads(record)["video_path"]):
        assert shown.encode("utf-8", "surrogateescape") == path


def test_command_line_shows_what_it_can(address, videos, locale):
    path = os.path.join(videos, NAMES[0])
    command = [*GROUNDSERVE, "score", path, "--query", "Où?", "--server", address]
    scored = subprocess.run(command, env=locale, capture_output=True, check=True)
    assert b": 120 frames, " in scored.stdout

"""Names of checkpoints."""

from pathlib import Path

import httpx2
import pytest

from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.weights.checkpoint_place import SHIPPED_CHECKPOINT, find_checkpoint


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_shipped_checkpoint_has_a_name(folder):
    assert find_checkpoint("digits") == SHIPPED_CHECKPOINT
    assert (SHIPPED_CHECKPOINT / "config.json").is_file()


def test_a_local_directory_comes_first(folder):
    (folder / "digits").mkdir()
    (folder / "digits" / "config.json").touch()
    assert find_checkpoint("digits") == folder / "digits"


def test_a_hub_id_is_not_looked_for_here(folder):
    assert find_checkpoint("nvidia/VideoITG-8B") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/b/c", "no such directory, and not a hub id"),
        ("~no-such-user/a", "no such directory, and not a hub id"),
        ("file", "must be a directory or a hub id, got a file"),
    ],
)
def test_what_is_no_checkpoint(folder, name, message):
    (folder / "file").touch()
    with pytest.raises(InvalidRequestError, match=f"^checkpoint {name}: {message}"):
        find_checkpoint(Path(name))


def test_a_hub_that_does_not_answer_is_named_with_the_checkpoint(folder, monkeypatch):
    from groundserve.families.videoitg.checkpoint import Checkpoint

    def refuse(*_, **__):
        raise OSError("no network\nand more about that")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    message = "^checkpoint no/such: no such directory, and not to be had from the hub: no network$"
    with pytest.raises(UnavailableError, match=message):
        Checkpoint.open("no/such")


@pytest.mark.parametrize("status", [404, 403])
def test_an_id_that_the_hub_does_not_have_is_the_callers_to_correct(folder, monkeypatch, status):
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    from groundserve.families.videoitg.checkpoint import Checkpoint

    def refuse(*_, **__):
        kind = {404: RepositoryNotFoundError, 403: GatedRepoError}[status]
        request = httpx2.Request("GET", "https://hub/api/models/no/such")
        raise kind("Client error\nmore", response=httpx2.Response(status, request=request))

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    for name in ("no/such", "no--such/id"):
        message = f"^checkpoint {name}: no such directory, and the hub has no model of that id, or "
        with pytest.raises(InvalidRequestError, match=message):
            Checkpoint.open(name)
        monkeypatch.undo()  # an id that cannot be is refused without asking

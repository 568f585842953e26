"""Download published checkpoints from the hub, at a pinned revision, each file's hash checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import Any

from groundserve import extras
from groundserve.errors import InvalidRequestError, MediaError, UnavailableError
from groundserve.weights.hashes import file_sha256

RECORD_NAME = "groundserve_download.json"
"""What was downloaded into a folder; it appears when all of it is there and was checked."""


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """One repository of the hub that a checkpoint needs."""

    hub_id: str
    folder: str
    """Where its files go, below the checkpoint's folder; "" is that folder itself."""
    licence: str
    revision: str | None = None
    """Commit that is downloaded; None where no commit is known, and the user has to name one."""
    files: tuple[str, ...] = ("*",)
    """Patterns of the files that are needed."""


@dataclass(frozen=True, kw_only=True)
class PublishedCheckpoint:
    """A checkpoint as it was published."""

    repositories: tuple[HubRepository, ...]
    elsewhere: tuple[str, ...] = ()
    """Files and folders that the hub does not have, by their place in the checkpoint's folder."""


_VICUNA = "3321f76e3f527bd14065daf69dad9344000a201d"
_SIGLIP = "9fdffc58afc957d1a03a25b10dba0329ab15c2a3"

PUBLISHED: Mapping[str, PublishedCheckpoint] = MappingProxyType(
    {
        "videoitg": PublishedCheckpoint(
            repositories=(
                HubRepository(
                    hub_id="nvidia/VideoITG-8B",
                    folder="",
                    licence="NVIDIA's, for research and not for commercial use",
                ),
            )
        ),
        "siglip": PublishedCheckpoint(
            repositories=(
                HubRepository(
                    hub_id="google/siglip-so400m-patch14-384",
                    folder="",
                    licence="Apache-2.0",
                    revision=_SIGLIP,
                ),
            )
        ),
        "vtimellm": PublishedCheckpoint(
            repositories=(
                HubRepository(
                    hub_id="lmsys/vicuna-7b-v1.5",
                    folder="vicuna-7b-v1.5",
                    licence="Llama 2 Community License; VTimeLLM's own parts: CC BY-NC-ND 4.0",
                    revision=_VICUNA,
                ),
            ),
            elsewhere=(
                "clip/ViT-L-14.pt",
                "vtimellm-vicuna-v1-5-7b-stage1",
                "vtimellm-vicuna-v1-5-7b-stage2",
                "vtimellm-vicuna-v1-5-7b-stage3",
            ),
        ),
        "vtgllm": PublishedCheckpoint(
            repositories=(
                HubRepository(
                    hub_id="Yongxin-Guo/VTG-LLM",
                    folder="vtgllm",
                    licence="not stated; code Apache-2.0, base under the Llama 2 licence",
                ),
                HubRepository(
                    hub_id="DAMO-NLP-SG/Video-LLaMA-2-7B-Finetuned",
                    folder="Video-LLaMA-2-7B-Finetuned",
                    licence="Llama 2 Community License",
                    files=("llama-2-7b-chat-hf/*",),
                ),
            ),
            elsewhere=(
                "eva-vit-g/eva_vit_g.pth",
                "instruct-blip/instruct_blip_vicuna7b_trimmed.pth",
                "bert-base-uncased",
            ),
        ),
        "grounded_videollm": PublishedCheckpoint(
            repositories=(
                HubRepository(
                    hub_id="WHB139426/Grounded-Video-LLM",
                    folder="",
                    licence="MIT; Phi-3.5 MIT, Llama 3 under its own",
                ),
            )
        ),
    }
)
"""By the name that `groundserve download` takes. Revisions are those that public code pins."""


def downloads_dir() -> Path:
    """Return where checkpoints are downloaded to: `$XDG_CACHE_HOME/groundserve/checkpoints`."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "groundserve" / "checkpoints"


def find_published(name: str) -> PublishedCheckpoint:
    """Return a checkpoint by its name."""
    if name not in PUBLISHED:
        raise InvalidRequestError(
            f"no checkpoint is called {name}; there are {', '.join(PUBLISHED)}"
        )
    return PUBLISHED[name]


def missing_parts(name: str, folder: Path) -> list[str]:
    """Return what a checkpoint's folder lacks: repositories by their id, the rest by place."""
    checkpoint = find_published(name)
    record = folder / RECORD_NAME
    downloaded = json.loads(record.read_text("utf-8")) if record.is_file() else {}
    missing = [one.hub_id for one in checkpoint.repositories if one.hub_id not in downloaded]
    return missing + [one for one in checkpoint.elsewhere if not (folder / one).exists()]


def download(name: str, folder: Path, *, revision: str | None = None) -> dict[str, Any]:
    """Download what the hub has of a checkpoint; files that are there are not fetched again.

    A file goes on where a broken connection stopped it. `HF_ENDPOINT`, `HF_TOKEN` and what else
    huggingface_hub reads from the environment counts.

    Args:
        name: One of `PUBLISHED`.
        folder: Made if it is missing.
        revision: Commit, branch or tag, in place of the pinned one.

    Returns:
        By hub id the commit and the SHA-256 of each file, as in `RECORD_NAME`.

    Raises:
        InvalidRequestError: No such name, or no revision is pinned and none was given.
        UnavailableError: The hub does not answer, or refuses.
        MediaError: A file's hash is not the hub's.
    """
    checkpoint = find_published(name)
    for one in checkpoint.repositories:
        check_revision(one, revision)
    record = {
        one.hub_id: _download(one, folder / one.folder, revision or one.revision)
        for one in checkpoint.repositories
    }
    (folder / RECORD_NAME).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return record


def check_revision(repository: HubRepository, revision: str | None) -> None:
    """Refuse a download of nobody knows what."""
    if revision is None and repository.revision is None:
        raise InvalidRequestError(
            f"no commit of {repository.hub_id} is pinned; give --revision COMMIT, or "
            "--revision main for whatever it is today"
        )


def _download(repository: HubRepository, folder: Path, revision: str | None) -> dict[str, Any]:
    hub = extras.huggingface_hub
    patterns = list(repository.files)
    try:
        info = hub.HfApi().model_info(repository.hub_id, revision=revision, files_metadata=True)
        hub.snapshot_download(
            repository.hub_id, revision=info.sha, local_dir=folder, allow_patterns=patterns
        )
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError) as error:
        raise UnavailableError(
            f"{repository.hub_id} at {revision}: {' '.join(str(error).split())[:300]}; the same "
            "command goes on with the files that are missing"
        ) from error
    siblings = {one.rfilename: one for one in info.siblings or []}
    names = [name for name in siblings if any(fnmatch(name, one) for one in patterns)]
    return {
        "commit": info.sha,
        "files": {name: _checked(folder / name, siblings[name]) for name in names},
    }


def _checked(path: Path, listed: Any) -> str:
    """Return the SHA-256 of a file that is what the hub lists."""
    found = file_sha256(path)
    if listed.lfs is not None:
        is_right = found == listed.lfs.sha256
    else:  # the id of a blob of git's
        data = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
        is_right = listed.blob_id is None or blob.hexdigest() == listed.blob_id
    if not is_right:
        path.unlink()
        raise MediaError(f"{path}: its hash is not the hub's, so it was deleted; download again")
    return found

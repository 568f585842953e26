"""Files that the page shows and saves, beside the pictures and clips of the API."""

from __future__ import annotations

import io
import zipfile
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response

from groundserve.clips import frame_jpegs
from groundserve.errors import MediaError
from groundserve.gateway.access import Owner, OwnerDep
from groundserve.gateway.routes import DeskDep, Id, make_of
from groundserve.gateway.work import Desk

router = APIRouter(prefix="/files", include_in_schema=False)
_MAX_FRAMES = 512


@router.get("/{video_id}/video")
async def video(video_id: Id, owner: OwnerDep, desk: DeskDep) -> Response:
    """Return a stored video, or the part of it that the player asks for."""
    found = desk.spool.get(owner, video_id)
    # The browser looks at the content itself; a type that it does not know would stop it.
    return FileResponse(desk.spool.path(found), media_type="video/mp4")


@router.get("/{video_id}/picture.jpg")
async def picture(request: Request, video_id: Id, owner: OwnerDep, desk: DeskDep) -> Response:
    """Return a small first frame; nothing of what cannot be decoded."""
    try:
        (jpeg,) = await _frames(request, desk, owner, video_id, [0], longest_side=320)
    except MediaError:
        return Response(status_code=204)
    headers = {"Cache-Control": "private, max-age=86400"}
    return Response(jpeg, media_type="image/jpeg", headers=headers)


@router.get("/{video_id}/frames.zip")
async def frames(
    request: Request,
    video_id: Id,
    owner: OwnerDep,
    desk: DeskDep,
    frame: Annotated[list[int], Query(min_length=1, max_length=_MAX_FRAMES)],
) -> Response:
    """Return frames, by their increasing ordinals, as JPEGs in a ZIP."""
    jpegs = await _frames(request, desk, owner, video_id, frame)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for ordinal, jpeg in zip(frame, jpegs, strict=True):
            archive.writestr(f"frame_{ordinal:07d}.jpg", jpeg)
    headers = {"Content-Disposition": 'attachment; filename="frames.zip"'}
    return Response(buffer.getvalue(), media_type="application/zip", headers=headers)


async def _frames(
    request: Request,
    desk: Desk,
    owner: Owner,
    video_id: str,
    ordinals: list[int],
    longest_side: int | None = None,
) -> list[bytes]:
    make = partial(frame_jpegs, frame_indices=ordinals, longest_side=longest_side)
    jpegs: list[bytes] = await make_of(request, desk, owner, video_id, make)
    return jpegs

"""Files that the page shows and saves, beside the pictures and clips of the API."""

from __future__ import annotations

import io
import zipfile
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response

from groundserve.clips import frame_jpegs
from groundserve.gateway.access import OwnerDep
from groundserve.gateway.routes import DeskDep, Id

router = APIRouter(prefix="/files", include_in_schema=False)
_MAX_FRAMES = 512


@router.get("/{video_id}/video")
async def video(video_id: Id, owner: OwnerDep, desk: DeskDep) -> Response:
    """Return a stored video, or the part of it that the player asks for."""
    found = desk.spool.get(owner, video_id)
    # The browser looks at the content itself; a type that it does not know would stop it.
    return FileResponse(desk.spool.path(found), media_type="video/mp4")


@router.get("/{video_id}/frames.zip")
async def frames(
    request: Request,
    video_id: Id,
    owner: OwnerDep,
    desk: DeskDep,
    frame: Annotated[list[int], Query(min_length=1, max_length=_MAX_FRAMES)],
) -> Response:
    """Return frames, by their increasing ordinals, as JPEGs in a ZIP."""
    found = desk.spool.get(owner, video_id)
    make = partial(frame_jpegs, frame_indices=frame)
    with owner.at_work(), desk.spool.pinned(found):
        pictures = await desk.pictures.make(desk.spool.path(found), make)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for ordinal, picture in zip(frame, pictures, strict=True):
            archive.writestr(f"frame_{ordinal:07d}.jpg", picture)
    headers = {"Content-Disposition": 'attachment; filename="frames.zip"'}
    return Response(buffer.getvalue(), media_type="application/zip", headers=headers)

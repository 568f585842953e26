"""Frames and clips of stored videos."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from groundserve.clips import clip_mp4, frame_jpegs
from groundserve.gateway.access import OwnerDep
from groundserve.gateway.errors import ERROR_RESPONSES
from groundserve.gateway.pictures import Make, T
from groundserve.gateway.routes import DeskDep, Id
from groundserve.gateway.work import until_left

_MAX_ORDINAL = 2**31 - 1
_MAX_SECONDS = 1e6

router = APIRouter(prefix="/v1", responses={**ERROR_RESPONSES})


def _file(media_type: str) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary"}
    answer = {"description": "The file.", "content": {media_type: {"schema": schema}}}
    return {"response_class": Response, "responses": {200: answer}}


@router.get("/videos/{video_id}/frames/{ordinal}.jpg", **_file("image/jpeg"))
async def frame(
    request: Request,
    video_id: Id,
    ordinal: Annotated[int, Path(ge=0, le=_MAX_ORDINAL)],
    owner: OwnerDep,
    desk: DeskDep,
    longest_side: Annotated[int | None, Query(ge=1, le=8192)] = None,
) -> Response:
    """Return a frame by its ordinal in the file, as `frame_indices` have it, upright."""
    make = partial(frame_jpegs, frame_indices=[ordinal], longest_side=longest_side)
    (picture,) = await made(request, desk, owner, video_id, make)
    return Response(picture, media_type="image/jpeg")


@router.get("/videos/{video_id}/clip.mp4", **_file("video/mp4"))
async def clip(
    request: Request,
    video_id: Id,
    owner: OwnerDep,
    desk: DeskDep,
    start: Annotated[float, Query(ge=0, le=_MAX_SECONDS)] = 0.0,
    end: Annotated[float, Query(ge=0, le=_MAX_SECONDS)] = _MAX_SECONDS,
) -> Response:
    """Return the frames shown from one second to another as a video, re-encoded as H.264."""
    make = partial(clip_mp4, start_seconds=start, end_seconds=end)
    return Response(await made(request, desk, owner, video_id, make), media_type="video/mp4")


async def made(request: Request, desk: DeskDep, owner: OwnerDep, video_id: str, make: Make[T]) -> T:
    """Make something of an owner's video, for as long as the caller waits."""
    video = desk.spool.get(owner, video_id)
    with owner.at_work(), desk.spool.pinned(video):
        return await until_left(request, desk.pictures.make(desk.spool.path(video), make))

"""Scores, answers, videos with their frames and clips, and jobs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from groundserve.clips import clip_mp4, frame_jpegs
from groundserve.errors import InvalidRequestError
from groundserve.gateway.access import Owner, OwnerDep
from groundserve.gateway.errors import ERROR_RESPONSES
from groundserve.gateway.jobs import Jobs
from groundserve.gateway.pictures import Make
from groundserve.gateway.requests import BODIES, Kind, capped, content_type, read_asked, read_form
from groundserve.gateway.store import Video
from groundserve.gateway.work import Desk, answer_events, as_json, streamed, until_left


async def _desk(request: Request) -> Any:
    return request.app.state.gateway


async def _jobs(request: Request) -> Any:
    return request.app.state.jobs


DeskDep = Annotated[Desk, Depends(_desk)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
Id = Annotated[str, Path(max_length=64)]
_MAX_SECONDS = 1e6

router = APIRouter(prefix="/v1", responses=ERROR_RESPONSES)
_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_FIELDS: dict[str, Any] = {
    "query": {"type": "array", "items": {"type": "string"}},
    "options": {"type": "string", "description": "JSON: all else that may be given."},
}


def body_of(other: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the OpenAPI of a route that reads its body itself: a form with a video, or another."""
    form = {"type": "object", "required": ["video"], "properties": {"video": _FILE, **fields}}
    content = {name: {"schema": schema} for name, schema in other.items()}
    content["multipart/form-data"] = {"schema": form}
    return {"requestBody": {"required": True, "content": content}}


def _asking(kind: Kind) -> dict[str, Any]:
    return body_of({"application/json": BODIES[kind].model_json_schema()}, **_FIELDS)


def _made(media_type: str) -> dict[str, Any]:
    """Return what a route says that answers with a file."""
    answer = {"description": "The file.", "content": {media_type: {"schema": _FILE}}}
    return {"response_class": Response, "responses": {200: answer}}


async def _answer(
    kind: Kind, request: Request, owner: OwnerDep, desk: DeskDep, jobs: Jobs
) -> Response:
    request_id: str = request.state.request_id
    async with AsyncExitStack() as held:
        held.enter_context(owner.at_work())
        asked = await read_asked(request, kind, spool=desk.spool, owner=owner, held=held)
        request.state.questions = asked.body.queries
        is_streamed = getattr(asked.body, "stream", False)
        if asked.body.background:
            if is_streamed:
                raise InvalidRequestError("give one of stream and background")
            job = jobs.add(asked, owner, request_id, held)
            return json_text(jobs.described(job), 202)
        if is_streamed:
            events = answer_events(
                lambda tell: desk.answer(asked, owner, request_id=request_id, on_text=tell)
            )
            return await streamed(request, events, held=held.pop_all())
        result = await until_left(request, desk.answer(asked, owner, request_id=request_id))
        return json_text(await as_json(result))


def json_text(text: str, status: int = 200) -> Response:
    """Answer with JSON that is text already."""
    return Response(text, status, media_type="application/json")


@router.post("/score", openapi_extra=_asking("score"))
async def score(request: Request, owner: OwnerDep, desk: DeskDep, jobs: JobsDep) -> Response:
    """Score the frames of a video for questions; answers as `groundserve score --json`."""
    return await _answer("score", request, owner, desk, jobs)


@router.post("/ask", openapi_extra=_asking("ask"))
async def ask(request: Request, owner: OwnerDep, desk: DeskDep, jobs: JobsDep) -> Response:
    """Answer questions about a video in text; answers as `groundserve ask --json`."""
    return await _answer("ask", request, owner, desk, jobs)


@router.post("/videos", status_code=201, openapi_extra=body_of({"application/octet-stream": _FILE}))
async def upload(request: Request, owner: OwnerDep, desk: DeskDep) -> Response:
    """Store a video: the body of a form's file `video`, or all of a body of another type."""
    async with AsyncExitStack() as held:
        held.enter_context(owner.at_work())
        if content_type(request) == "multipart/form-data":
            async with AsyncExitStack() as undone:
                form = await read_form(
                    request, spool=desk.spool, owner=owner, held=undone, is_temporary=False
                )
                if form.video is None or form.queries or form.options:
                    raise InvalidRequestError("give one file `video`, and nothing else")
                video = form.video
                undone.pop_all()
        else:
            chunks = capped(request, desk.settings.max_video_bytes, "a video")
            video = await desk.spool.receive(chunks, owner, name="<bytes>", is_temporary=False)
        return JSONResponse(_described(video), 201)


@router.get("/videos")
async def list_videos(owner: OwnerDep, desk: DeskDep) -> Response:
    """List the videos of this key."""
    videos = desk.spool.store.videos(owner=owner.name, is_temporary=False)
    return JSONResponse({"videos": [_described(video) for video in videos]})


@router.get("/videos/{video_id}")
async def get_video(video_id: Id, owner: OwnerDep, desk: DeskDep) -> Response:
    """Tell what is known of a video."""
    return JSONResponse(_described(desk.spool.get(owner, video_id)))


@router.delete("/videos/{video_id}", status_code=204)
async def delete_video(video_id: Id, owner: OwnerDep, desk: DeskDep) -> Response:
    """Delete a video; requests that read it already go on."""
    desk.spool.delete(desk.spool.get(owner, video_id))
    return Response(status_code=204)


@router.get("/videos/{video_id}/frames/{ordinal}.jpg", **_made("image/jpeg"))
async def frame(
    request: Request,
    video_id: Id,
    ordinal: Annotated[int, Path(ge=0, lt=2**31)],
    owner: OwnerDep,
    desk: DeskDep,
    longest_side: Annotated[int | None, Query(ge=1, le=8192)] = None,
) -> Response:
    """Return a frame by its ordinal in the file, as `frame_indices` have it, upright."""
    make = partial(frame_jpegs, frame_indices=[ordinal], longest_side=longest_side)
    (picture,) = await make_of(request, desk, owner, video_id, make)
    return Response(picture, media_type="image/jpeg")


@router.get("/videos/{video_id}/clip.mp4", **_made("video/mp4"))
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
    return Response(await make_of(request, desk, owner, video_id, make), media_type="video/mp4")


async def make_of(
    request: Request, desk: Desk, owner: Owner, video_id: str, make: Make[Any]
) -> Any:
    """Make something of an owner's video, for as long as the caller waits."""
    with owner.at_work(), desk.spool.pinned(desk.spool.get(owner, video_id)) as video:
        return await until_left(request, desk.pictures.make(owner, desk.spool.path(video), make))


@router.get("/jobs")
async def list_jobs(owner: OwnerDep, desk: DeskDep) -> Response:
    """List the jobs of this key, the oldest first."""
    statuses = desk.spool.store.job_statuses(owner.name)
    return JSONResponse({"jobs": [{"id": job, "status": status} for job, status in statuses]})


@router.get("/jobs/{job_id}")
async def get_job(job_id: Id, owner: OwnerDep, jobs: JobsDep) -> Response:
    """Tell how far a job is; with its answer or its error once it has ended."""
    return json_text(jobs.described(jobs.get(owner, job_id)))


@router.get("/jobs/{job_id}/events")
async def job_events(request: Request, job_id: Id, owner: OwnerDep, jobs: JobsDep) -> Response:
    """Follow a job by server-sent events, each of them what GET of the job tells."""
    jobs.get(owner, job_id)
    async with AsyncExitStack() as held:
        held.enter_context(owner.following())
        return await streamed(request, jobs.events(owner, job_id), held=held.pop_all())


@router.delete("/jobs/{job_id}", status_code=204)
async def delete_job(job_id: Id, owner: OwnerDep, jobs: JobsDep) -> Response:
    """Cancel a job that has not ended, and forget it with its answer."""
    await jobs.delete(jobs.get(owner, job_id))
    return Response(status_code=204)


@router.get("/models")
async def models(owner: OwnerDep, desk: DeskDep) -> Response:
    """List the models that answer now."""
    names = [*desk.upstreams.families(), *desk.video_llms.all]
    data = [{"id": name, "object": "model"} for name in names]
    return JSONResponse({"object": "list", "data": data})


def _described(video: Video) -> dict[str, Any]:
    names = ("id", "name", "num_bytes", "sha256", "created_at", "used_at")
    return {name: getattr(video, name) for name in names}

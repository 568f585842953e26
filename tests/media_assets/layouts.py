"""MP4 and MOV files as other settings, editors and encoders write them, described once each."""

from __future__ import annotations

from tests.media_assets import (
    AUDIO_AND_VIDEO,
    AV1,
    FRAGMENTED,
    H264,
    H264_MKV,
    H264_OPEN_GOP,
    H264_TS,
    HEVC_OPEN_GOP,
    MPEG4_AVI,
    MPEG4_MP4,
    VP9_MP4,
    Asset,
)


def _copy(name: str, source: Asset, *arguments: str, before: tuple[str, ...] = ()) -> Asset:
    return Asset(
        name=name,
        copy_of=source.name,
        input_arguments=before,
        arguments=("-c", "copy", *arguments),
        num_frames=source.num_frames,
    )


def _encode(name: str, settings: str, *arguments: str) -> Asset:
    x264 = ("-c:v", "libx264", "-preset", "veryfast", "-x264-params", settings)
    return Asset(name=name, arguments=(*arguments, *x264, "-frames:v", "100"), num_frames=100)


# The picture is turned over every seventh frame, so that x264 cuts scenes.
_CUTS = ("-vf", "negate=enable='mod(floor(n/7),2)'")

CLEAR = (
    _copy("cut_in_gop.mp4", H264, before=("-ss", "0.5")),
    _copy("cut_in_open_gop.mp4", H264_OPEN_GOP, before=("-ss", "1.1", "-t", "1")),
    _copy("cut_beside_audio.mp4", AUDIO_AND_VIDEO, before=("-ss", "0.3")),
    _copy("cut_hevc.mov", HEVC_OPEN_GOP, before=("-ss", "0.7")),
    _copy("cut_mpeg4.mp4", MPEG4_MP4, before=("-ss", "0.7")),
    _copy("late_beside_audio.mp4", AUDIO_AND_VIDEO, before=("-itsoffset", "1.5")),
    _copy("negative_offsets.mp4", H264, "-movflags", "negative_cts_offsets"),
    _copy(
        "negative_offsets_cut.mp4",
        H264_OPEN_GOP,
        *("-movflags", "negative_cts_offsets"),
        before=("-ss", "0.5"),
    ),
    _copy("no_edit.mp4", H264, "-use_editlist", "0"),
    _copy("quicktime.mov", H264),
    _copy("timecode.mov", H264, "-timecode", "00:00:00:00"),
    _copy("time_scale_1000.mp4", H264, "-video_track_timescale", "1000"),
    _copy("faststart_beside_audio.mp4", AUDIO_AND_VIDEO, "-movflags", "faststart"),
    _copy("from_matroska.mp4", H264_MKV),
    _copy("from_transport_stream.mp4", H264_TS),
    _copy("from_avi.mp4", MPEG4_AVI),
    _encode("pyramid.mp4", "keyint=250:bframes=8:b-pyramid=normal:scenecut=80:min-keyint=20"),
    _encode("all_key.mp4", "keyint=1:bframes=0"),
    _encode("refreshed.mp4", "keyint=30:intra-refresh=1:bframes=0"),
    _encode("scene_cuts.mp4", "min-keyint=100:ref=3:scenecut=60", *_CUTS),
    _encode("scene_cuts_one_reference.mp4", "min-keyint=100:ref=1:scenecut=60:bframes=0", *_CUTS),
    _encode("timed.mp4", "keyint=25:nal-hrd=cbr:vbv-maxrate=200:vbv-bufsize=200:bitrate=200:aud=1"),
    _encode("headers_before_keys.mp4", "keyint=25:open-gop=1:repeat-headers=1:aud=1:slices=4"),
)
"""Listed from their index."""

UNCLEAR = (
    FRAGMENTED,
    VP9_MP4,
    AV1,
    _copy("fragmented_beside_audio.mp4", AUDIO_AND_VIDEO, "-movflags", "frag_keyframe"),
    _encode("headers_and_scene_cuts.mp4", "min-keyint=100:repeat-headers=1:scenecut=60", *_CUTS),
)
"""Demuxed: fragments, packets that the parser makes, a key that hangs on headers in between."""

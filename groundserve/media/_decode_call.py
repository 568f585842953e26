"""Ask a worker to decode, and check what it answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.media._process import WorkerProcess
from groundserve.media._wire import Message, WireError, frames_name, targets_name
from groundserve.media.outputs import FrameOutput, check_outputs
from groundserve.media.segments import Segments
from groundserve.runtime.deadline import Deadline


def decode_outputs(
    worker: WorkerProcess,
    segments: Segments,
    outputs: Sequence[FrameOutput],
    *,
    deadline: Deadline,
) -> list[NDArray[np.uint8]]:
    """Have a worker decode the targets of segments; see `MediaWorkers.decode_outputs`."""
    # Before anything is copied to the worker, who would refuse it too late.
    limits = worker.limits
    if segments.num_frames > limits.max_num_frames:
        raise InvalidRequestError(
            f"segments must have at most {limits.max_num_frames} targets (max_num_frames), "
            f"got {segments.num_frames}"
        )
    check_outputs(outputs, segments.num_frames, limits)

    def check(answer: Message) -> None:
        _check_decoded(answer, segments, outputs)

    answer = worker.call(
        "decode",
        deadline=deadline,
        arrays=segments.arrays
        | {
            targets_name(number): output.targets
            for number, output in enumerate(outputs)
            if output.targets is not None
        },
        check=check,
        stream=vars(segments.stream),
        outputs=[{"image_size": one.image_size, "resize": one.resize} for one in outputs],
    )
    worker.work_done.update(answer.fields)
    return [answer.arrays[frames_name(number)] for number in range(len(outputs))]


def _check_decoded(answer: Message, segments: Segments, outputs: Sequence[FrameOutput]) -> None:
    """Raise WireError unless there is a frame for each target, and counts that can be."""
    if answer.arrays.keys() != {frames_name(number) for number in range(len(outputs))}:
        raise WireError("other arrays than frames")
    num_converted = 0
    for number, output in enumerate(outputs):
        frames = answer.arrays[frames_name(number)]
        num_wanted = len(output.places(segments.num_frames))
        num_frames, *sides, num_channels = frames.shape if frames.ndim == 4 else (-1, 0, 0, 0)
        has_size = output.image_size is None or sides == [output.image_size] * 2
        if (num_frames, num_channels) != (num_wanted, 3) or not has_size:
            raise WireError(f"frames of shape {frames.shape}")
        if frames.dtype != np.uint8:
            raise WireError(f"frames of {frames.dtype.name}")
        num_converted += num_wanted
    # A packet has a byte at least.
    ceilings = {"packets_decoded": segments.data.nbytes, "frames_converted": num_converted}
    if answer.fields.keys() != ceilings.keys():
        raise WireError("other counts")
    for name, count in answer.fields.items():
        # `isinstance` would take JSON's true for 1.
        if type(count) is not int or not 1 <= count <= ceilings[name]:
            raise WireError(f"{name} out of range")

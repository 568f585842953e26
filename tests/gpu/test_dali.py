"""NVDEC against PyAV on real H.264."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch

from groundserve.families.plans import FrameStream
from groundserve.limits import Limits
from groundserve.media import MediaWorkers
from groundserve.media._cut import cut_segments
from groundserve.runtime.deadline import Deadline
from python_backend.decode import DaliDecoder, PyAVDecoder, memory
from python_backend.meter import Counts
from tests.media_assets.reading import reader_of

pytestmark = pytest.mark.needs_gpu

IMAGE_SIZE = 112
TARGETS = np.array([0, 1, 24, 57, 100, 101, 102, 180, 249])


@pytest.fixture(scope="module")
def segments(clips):
    with reader_of(clips["bikes"]) as reader:
        yield cut_segments(reader, TARGETS)


@pytest.fixture(scope="module")
def pyav():
    with closing(MediaWorkers(limits=Limits())) as workers:
        yield PyAVDecoder(
            workers, streams=[FrameStream(name="PIXELS", size=IMAGE_SIZE)], meter=Counts()
        )


@pytest.mark.parametrize("num_threads", [1, 4])
def test_nvdec_gives_the_right_frames_on_the_gpu(segments, pyav, num_threads):
    decoder = DaliDecoder(
        image_size=IMAGE_SIZE, device="mixed", num_threads=num_threads, fallback=pyav
    )
    deadline = Deadline.after(120)
    decoded = decoder.decode(segments, deadline=deadline)
    again = decoder.decode(segments, deadline=deadline)
    exact = pyav.decode(segments, deadline=deadline).frames

    assert decoded.decoder == "dali"
    assert isinstance(decoded.frames, torch.Tensor)
    assert decoded.frames.is_cuda
    assert torch.equal(decoded.frames, again.frames)
    frames = decoded.frames.cpu().numpy()
    # On a CPU the mean is 1.2 for this clip as VP9: chroma is upsampled in another way.
    distance = np.abs(frames[:, None].astype(np.int64) - exact[None]).mean(axis=(2, 3, 4))
    assert distance.diagonal().max() < 3
    assert distance.argmin(axis=1).tolist() == list(range(len(TARGETS)))


@pytest.mark.parametrize("num_decoders", [1, 2])
def test_nvdec_gives_the_same_frames_however_a_chunk_is_split(
    segments, pyav, num_decoders, monkeypatch
):
    decoder = DaliDecoder(image_size=IMAGE_SIZE, device="mixed", num_threads=2, fallback=pyav)
    whole = decoder.decode(segments, deadline=Deadline.after(120))
    ceiling = num_decoders * memory.decoder_bytes(segments.stream)
    monkeypatch.setattr(memory, "DECODERS_BYTES", ceiling)
    assert len(memory.split(segments)) > 1
    parts = decoder.decode(segments, deadline=Deadline.after(120))
    assert parts.decoder == whole.decoder == "dali"
    assert torch.equal(parts.frames, whole.frames)

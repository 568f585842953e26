"""Samples put together from NAL units; FFmpeg's word on whole files is in test_indexed_packets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from groundserve.media._h264_keys import ASK, KEY, NOT_KEY, find_h264_keys
from groundserve.media._mp4 import UnclearIndexError

EXTRADATA = b"\x01\x64\x00\x0a\xff\xe0\x00"  # lengths of four bytes
AUD = b"\x09\xf0"
SPS = b"\x67\x64\x00\x00\x03\x00\x80"  # with an escape
IDR = b"\x65\x88\x80" + b"\x11" * 90
P_SLICE = b"\x41\x9a" + b"\x22" * 90  # "1", "00110" is type 5
B_SLICE = b"\x01\x9e" + b"\x22" * 20  # "1", "00111" is type 6
I_SLICE = b"\x41\x88" + b"\x22" * 20  # "1", "0001000" is type 7
LATER_SLICE = b"\x41\x4a" + b"\x22" * 20  # starts behind macroblock 0
RECOVERY = b"\x06\x06\x01\xc4\x80"
RECOVERY_AFTER_3 = b"\x06\x06\x01\x20\x80"
TIMING = b"\x06\x01\x06\x06\x06\x06\x06\x06\x06\x80"
TIMING_AND_RECOVERY = b"\x06\x01\x01\x40\x06\x01\xc4\x80"
ESCAPED = b"\x06\x05\x04\x00\x00\x03\x01\x06\x80"
SETTINGS = b"\x06\x05\xff\xff\x50" + b"x" * 590 + b"\x80"


@pytest.fixture
def classify(tmp_path: Path):
    def classify(*samples: bytes | tuple[bytes, ...], extradata: bytes = EXTRADATA) -> list[int]:
        """What is known of samples, each given as its units or as bytes."""
        packed = [
            sample
            if isinstance(sample, bytes)
            else b"".join(len(unit).to_bytes(4, "big") + unit for unit in sample)
            for sample in samples
        ]
        path = tmp_path / "samples"
        path.write_bytes(b"".join(packed))
        sizes = np.array([len(sample) for sample in packed])
        with path.open("rb") as file:
            states = find_h264_keys(file.fileno(), np.cumsum(sizes) - sizes, sizes, extradata)
        return states.tolist()

    return classify


@pytest.mark.parametrize(
    ("units", "state"),
    [
        ((IDR,), KEY),
        ((AUD, SPS, IDR), KEY),
        ((SETTINGS, IDR), KEY),
        ((P_SLICE,), NOT_KEY),
        ((AUD, B_SLICE), NOT_KEY),
        ((P_SLICE, IDR), NOT_KEY),  # the first slice tells
        ((TIMING, P_SLICE), NOT_KEY),
        ((RECOVERY, P_SLICE), KEY),
        ((AUD, TIMING, RECOVERY, I_SLICE), KEY),
        ((RECOVERY_AFTER_3, P_SLICE), ASK),
        ((TIMING_AND_RECOVERY, P_SLICE), ASK),
        ((ESCAPED, P_SLICE), ASK),
        ((RECOVERY_AFTER_3, IDR), KEY),
        ((I_SLICE,), ASK),
        ((LATER_SLICE,), ASK),
    ],
)
def test_units_before_the_first_slice_tell(classify, units, state):
    # Beside others, and as the last of the file.
    assert classify((IDR,), units, (P_SLICE,), units) == [KEY, state, NOT_KEY, state]


@pytest.mark.parametrize(
    "sample",
    [
        (AUD,),
        (AUD,) * 9 + (P_SLICE,),
        b"\0\0\0\x50" + P_SLICE[:20],
        b"\0\0\0\0" + P_SLICE,
        b"\0\0\0\1\x41",
        b"\0",
        (b"\x06\x05\x05\0\0\1\x65\x88\x80", P_SLICE),  # a start code within
        (b"\x06\x05\xff" + b"\xff" * 2500, P_SLICE),
    ],
    ids=["no_slice", "many", "cut", "empty", "one_byte", "short", "start_code", "long"],
)
def test_other_samples_are_unclear(classify, sample):
    with pytest.raises(UnclearIndexError):
        classify((IDR,), sample)


def test_headers_among_the_samples_leave_nothing_to_ask(classify):
    assert classify((SPS, IDR), (P_SLICE,)) == [KEY, NOT_KEY]
    with pytest.raises(UnclearIndexError):
        classify((SPS, IDR), (I_SLICE,))


@pytest.mark.parametrize("extradata", [b"", b"\0\0\0\1" + SPS, EXTRADATA[:6]])
def test_start_codes_in_place_of_lengths_are_unclear(classify, extradata):
    with pytest.raises(UnclearIndexError):
        classify((IDR,), extradata=extradata)


def test_lengths_of_two_bytes(classify):
    sample = b"\0\2" + AUD + len(IDR).to_bytes(2, "big") + IDR
    assert classify(sample, extradata=EXTRADATA[:4] + b"\xfd" + EXTRADATA[5:]) == [KEY]

"""Rewrite the sequence parameter set of an H.264 file (ITU-T H.264, 7.3.2.1.1)."""

from __future__ import annotations


def without_vui(mp4: bytes) -> bytes:
    """Drop the usability information, which tells how far frames are reordered.

    The set keeps its length: zeros behind its last bit are no part of it.
    """
    start = mp4.index(b"avcC") + 4 + 8  # version, profile, levels, lengths, then the set's length
    end = start + int.from_bytes(mp4[start - 2 : start], "big")
    old = mp4[start:end]
    payload = old.replace(b"\0\0\3", b"\0\0")[1:]
    bits = "".join(f"{byte:08b}" for byte in payload)
    kept = bits[: _vui_flag(bits)] + "01"  # not present, stop bit
    kept += "0" * (-len(kept) % 8)
    new = old[:1] + bytes(int(kept[i : i + 8], 2) for i in range(0, len(kept), 8))
    assert b"\0\0" not in new, "nothing to escape"
    return mp4[:start] + new.ljust(len(old), b"\0") + mp4[end:]


def _vui_flag(bits: str) -> int:
    """Return the place of `vui_parameters_present_flag`, which is set."""
    reader = _Reader(bits)
    assert reader.fixed(8) == 100, "High profile"
    reader.fixed(16)  # constraints, level
    chroma_format = [reader.golomb() for _ in range(2)][1]
    assert chroma_format == 1, "4:2:0"
    reader.golomb(), reader.golomb()  # bit depths
    assert reader.fixed(2) == 0, "neither lossless nor scaling matrices"
    reader.golomb()  # log2_max_frame_num
    assert reader.golomb() == 0, "order counts of type 0"
    reader.golomb(), reader.golomb(), reader.fixed(1)  # order count, references, gaps
    reader.golomb(), reader.golomb()  # sides
    assert reader.fixed(1) == 1, "frames, no fields"
    reader.fixed(1)
    if reader.fixed(1):  # cropping
        [reader.golomb() for _ in range(4)]
    place = reader.place
    assert reader.fixed(1) == 1, "there is one"
    return place


class _Reader:
    def __init__(self, bits: str) -> None:
        self.bits = bits
        self.place = 0

    def fixed(self, num_bits: int) -> int:
        self.place += num_bits
        return int(self.bits[self.place - num_bits : self.place], 2)

    def golomb(self) -> int:
        zeros = self.bits.index("1", self.place) - self.place
        self.place += zeros
        return self.fixed(zeros + 1) - 1

"""Read the bits of a codec's headers."""

from __future__ import annotations

_MAX_GOLOMB_ZEROS = 31
"""Of a number of 32 bits, the largest that headers have."""


class BitReader:
    """Reads numbers from the first bit on; ValueError where the bits end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._num_left = 8 * len(data)

    def fixed(self, num_bits: int) -> int:
        """Return the next bits as one number."""
        self._num_left -= num_bits
        if self._num_left < 0:
            raise ValueError("the header ends early")
        return self._value >> self._num_left & (1 << num_bits) - 1

    def flag(self) -> bool:
        """Return the next bit."""
        return self.fixed(1) == 1

    def golomb(self) -> int:
        """Return a number in the Exp-Golomb code: n zeros, a one, n bits."""
        num_zeros = 0
        while not self.flag():
            num_zeros += 1
            if num_zeros > _MAX_GOLOMB_ZEROS:
                raise ValueError("a number of more than 32 bits")
        return (1 << num_zeros) - 1 + self.fixed(num_zeros)

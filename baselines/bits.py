"""Bits and bytes of H.26x headers and of BPG: u(n), ue(v), se(v), emulation prevention, and BPG's ue7.

Bits are read and written most significant first (H.265 clause 7.2 and 9.2). Everything here works on headers of some
hundred bits; coded slice data is never touched bit by bit.
"""

from __future__ import annotations

import re

from data.errors import BitstreamError, TruncatedBitstream

MAX_UE_PREFIX = 32  # H.265 9.2: the longest ue(v) that a standard uses holds 2**32 - 2


class BitReader:
    """Reads fields from the start of `data`; raises TruncatedBitstream where a field goes past its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0  # in bits

    @property
    def bits_left(self) -> int:
        return 8 * len(self.data) - self.position

    def u(self, n: int) -> int:
        """Unsigned number of `n` bits."""
        end = self.position + n
        if end > 8 * len(self.data):
            raise TruncatedBitstream(f"{n} bits wanted at bit {self.position}, but only {self.bits_left} are left")
        covering = self.data[self.position // 8 : (end + 7) // 8]
        self.position = end
        return (int.from_bytes(covering, "big") >> (-end % 8)) & ((1 << n) - 1)

    def flag(self) -> bool:
        return self.u(1) == 1

    def ue(self) -> int:
        """Exp-Golomb: n zeros, a one, n bits. 1 -> 0, 010 -> 1, 011 -> 2, 00100 -> 3."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > MAX_UE_PREFIX:
                raise BitstreamError(f"Exp-Golomb code with more than {MAX_UE_PREFIX} leading zeros")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Signed Exp-Golomb: ue 0, 1, 2, 3, 4 -> 0, 1, -1, 2, -2."""
        k = self.ue()
        return (k + 1) // 2 if k % 2 else -(k // 2)


class BitWriter:
    """Collects fields; the mirror image of BitReader."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def u(self, value: int, n: int) -> None:
        if not 0 <= value < 1 << n:
            raise ValueError(f"{value} does not fit u({n})")
        if n:
            self._bits.append(f"{value:0{n}b}")

    def flag(self, value: bool) -> None:
        self.u(int(value), 1)

    def ue(self, value: int) -> None:
        if not 0 <= value < (1 << MAX_UE_PREFIX + 1) - 1:
            raise ValueError(f"{value} does not fit ue(v)")
        length = (value + 1).bit_length()
        self.u(0, length - 1)
        self.u(value + 1, length)

    def se(self, value: int) -> None:
        self.ue(2 * value - 1 if value > 0 else -2 * value)

    def trailing_bits(self) -> None:
        """rbsp_trailing_bits(): a one, then zeros up to the next byte."""
        self.u(1, 1)
        self.u(0, -sum(map(len, self._bits)) % 8)

    def to_bits(self) -> str:
        """Everything written so far as zeros and ones: "00101"."""
        return "".join(self._bits)

    def to_bytes(self) -> bytes:
        """Everything written so far, padded with zeros to a byte."""
        bits = self.to_bits()
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def escape(rbsp: bytes) -> bytes:
    """Emulation prevention: 00 00 becomes 00 00 03 before a byte of 0 to 3. An RBSP never ends in a zero byte."""
    return re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", rbsp)


def unescape(payload: bytes) -> bytes:
    """Removes emulation prevention: 00 00 03 becomes 00 00."""
    return payload.replace(b"\x00\x00\x03", b"\x00\x00")


def write_ue7(value: int) -> bytes:
    """BPG's ue7: groups of 7 bits, most significant first, bit 7 set on all bytes but the last. 542 -> 84 1e."""
    if value < 0:
        raise ValueError(f"{value} does not fit ue7")
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


def read_ue7(data: bytes, offset: int, bits: int = 32) -> tuple[int, int]:
    """(value, offset behind it) of a ue7 of at most `bits` bits in its shortest form.

    Raises TruncatedBitstream at the end of the data, BitstreamError for a longer form or a larger value.
    """
    value = 0
    for position in range(offset, offset + (bits + 6) // 7):
        if position >= len(data):
            raise TruncatedBitstream(f"the data end inside a number that starts at byte {offset}")
        byte = data[position]
        if position == offset and byte == 0x80:
            raise BitstreamError(f"number at byte {offset} is not in its shortest form")
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            if value >> bits:
                raise BitstreamError(f"number at byte {offset} is {value}, more than {bits} bits")
            return value, position + 1
    raise BitstreamError(f"number at byte {offset} has more than {bits} bits")

"""Adaptive binary range coder for streams whose frames must be decodable as they arrive.

A range coder narrows an interval [low, low + range) of the fractions [0, 1) bit by bit: a bit takes the lower part of the
interval if it is 0, the upper part if it is 1, in proportion to their probabilities (Martin 1979; the binary form with
adaptive contexts is that of CABAC and of LZMA). All numbers are Python integers, so that encoder and decoder agree on
every machine; a carry needs no care, because `low` is a whole number as long as the frame.

Frames
------
The models persist over the whole stream, while each frame is a codeword of its own: it starts from the whole interval,
and ends as the shortest string of bytes whose value, read as a fraction with zeros behind it, lies in the final interval.

    two bits of probability 1/2, "1" and "0":  the interval is [0.5, 0.75), and 0x80 / 0x100 lies in it:     1 byte, 80
    the same with "1" and "1":                 [0.75, 1.0) holds 0xc0 / 0x100:                               1 byte, c0
    any number of bits that are all 0:         [0, something) holds the empty string's value 0:              no byte
    12 bits, 0000 0000 0001:                   [1/0x1000, 2/0x1000) holds no n / 0x100, but 0x10 / 0x10000:  2 bytes, 00 10

- The decoder knows where a frame's bytes end (its container says so) and takes all that is missing for zeros; so it decodes
  every symbol of a frame from that frame's bytes and the ones before, whatever comes later.
- No byte is spent on an end-of-frame symbol or on flushing the coder's registers. What is lost is the rounding of a frame
  to whole bytes, a third to half a byte.
- Coding the next frame inside what these bytes leave of this frame's interval would only cost (0.7 bits a frame of ten
  keypoints): the decoder knows all of the frame by then, and what they leave is never wider than the whole interval.
- 0 lies at the bottom: where 0 means "as expected", a frame in which all is as expected has no bytes at all.
- An encoder writes exactly one string for given symbols. `RangeDecoder.end_frame` holds the string against this rule, which
  finds half of all wrong bytes for nothing. It is no checksum, and it does not find missing bytes.

Invariants, in units of the last bit of `low`, of which there are `bits` behind the binary point:
encoder: 0 <= low, low + range <= 2**bits;  decoder: offset = value of the bytes - low, 0 <= offset < range;
both: 2**32 <= range <= 2**40 between two symbols, so that the rounding of `range * probability` costs less than 0.0001 bits.
"""

from __future__ import annotations

from bisect import bisect_right

from data.errors import BitstreamError

PROBABILITY_BITS = 16
_ONE = 1 << PROBABILITY_BITS
_RANGE_BITS = 40
_LEAST_RANGE = 1 << _RANGE_BITS - 8
_SHORT_MEMORY, _LONG_MEMORY = 32, 160  # chosen, in bits; the rate of keypoint streams hardly depends on them
_CERTAINTY = 1.5  # chosen: of the first estimate, which is worth as much as this many seen bits


def _rates(memory: int) -> list[int]:
    """Adaptation rate of a probability after n bits, in 1/65536: that of a mean over all n, later over `memory` bits."""
    return [round(_ONE / min(n + 1 + _CERTAINTY, memory)) for n in range(_LONG_MEMORY)]


_FAST, _SLOW = _rates(_SHORT_MEMORY), _rates(_LONG_MEMORY)


class Context:
    """Probability that a bit is 0, learnt from the bits coded with this context.

    It is the mean of two estimates (16-bit integers) with a memory of 32 and of 160 bits: one follows changes, the other is
    precise where there are none. Both begin as plain averages, so that a few bits suffice to learn a lopsided probability.
    """

    __slots__ = ("_fast", "_slow", "_seen")

    def __init__(self, zero_probability: float = 0.5, weight: int = 0) -> None:
        """A first estimate of the probability, worth as much as `weight` seen bits."""
        self._fast = self._slow = min(max(round(_ONE * zero_probability), 1), _ONE - 1)
        self._seen = weight

    @property
    def zero_probability(self) -> int:
        """In 1/65536, from 1 to 65535."""
        return self._fast + self._slow >> 1

    def update(self, bit: int) -> None:
        """Learns a bit that was coded. Rates are below 1, so that an estimate comes to neither 0 nor 65536."""
        seen = self._seen
        if bit:
            self._fast -= self._fast * _FAST[seen] >> PROBABILITY_BITS
            self._slow -= self._slow * _SLOW[seen] >> PROBABILITY_BITS
        else:
            self._fast += (_ONE - self._fast) * _FAST[seen] >> PROBABILITY_BITS
            self._slow += (_ONE - self._slow) * _SLOW[seen] >> PROBABILITY_BITS
        if seen < _LONG_MEMORY - 1:
            self._seen = seen + 1


class RangeEncoder:
    """Bits in, bytes out, frame by frame."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._low = 0
        self._range = 1 << _RANGE_BITS
        self._bits = _RANGE_BITS

    def encode(self, context: Context, bit: int) -> None:
        """Codes one bit with the probability of its context, which then learns it."""
        split = (self._range >> PROBABILITY_BITS) * context.zero_probability
        if bit:
            self._low += split
            self._range -= split
        else:
            self._range = split
        context.update(bit)
        self._widen()

    def encode_uniform(self, value: int, n_bits: int) -> None:
        """Codes a number in [0, 2**n_bits), all of them equally probable; n_bits is at most 16."""
        if not 0 <= value < 1 << n_bits <= _ONE:
            raise ValueError(f"{value} does not fit {n_bits} bits, of which there may be {PROBABILITY_BITS}")
        self._range >>= n_bits
        self._low += self._range * value
        self._widen()

    def encode_share(self, low: int, size: int) -> None:
        """Codes a symbol of fixed probability size / 65536; low: the sum of the sizes of those before it."""
        if not 0 <= low < low + size <= _ONE:
            raise ValueError(f"[{low}, {low + size}) is no part of [0, {_ONE})")
        part = self._range >> PROBABILITY_BITS
        self._low += part * low
        self._range = part * size
        self._widen()

    def _widen(self) -> None:
        while self._range < _LEAST_RANGE:
            self._range <<= 8
            self._low <<= 8
            self._bits += 8

    def frame_bytes(self) -> bytes:
        """The bytes of all symbols since the last call, none if all of them were zeros; begins the next frame."""
        low, last, bits = self._low, self._low + self._range - 1, self._bits
        self._begin()
        if low == 0:
            return b""
        # the coarsest grid that has a point in low..last is the one of the first bit in which low - 1 and last differ
        grid = ((low - 1 ^ last).bit_length() - 1) // 8 * 8
        return (-(-low >> grid)).to_bytes((bits - grid) // 8, "big")


class RangeDecoder:
    """The mirror image of RangeEncoder: `feed` the bytes of a frame, decode its symbols, `end_frame`.

    Every method leaves the decoder able to go on, whatever the bytes were: wrong bytes give wrong bits, or BitstreamError.
    """

    def __init__(self) -> None:
        self.feed(b"")

    def feed(self, frame_bytes: bytes) -> None:
        """Begins a frame: what `RangeEncoder.frame_bytes` returned for it."""
        self._data = frame_bytes
        self._range = 1 << _RANGE_BITS
        self._position = _RANGE_BITS // 8  # bytes that are in `_offset`, those behind the end of the data included
        self._offset = int.from_bytes(frame_bytes[: self._position].ljust(self._position, b"\0"), "big")

    def decode(self, context: Context) -> int:
        """One bit; the context learns it, as the encoder's does."""
        split = (self._range >> PROBABILITY_BITS) * context.zero_probability
        if self._offset < split:
            bit = 0
            self._range = split
        else:
            bit = 1
            self._offset -= split
            self._range -= split
        context.update(bit)
        self._widen()
        return bit

    def decode_uniform(self, n_bits: int) -> int:
        """A number in [0, 2**n_bits). Raises BitstreamError for a part of the interval that no number has."""
        part = self._range >> n_bits
        value = self._offset // part
        if value >> n_bits:
            raise BitstreamError(f"range coder: the bytes name no number of {n_bits} bits")
        self._offset -= part * value
        self._range = part
        self._widen()
        return value

    def decode_share(self, bounds: list[int]) -> int:
        """A symbol of fixed probability: its number, in bounds of 0, the sums of the sizes up to each symbol, 65536."""
        part = self._range >> PROBABILITY_BITS
        value = self._offset // part
        if value >> PROBABILITY_BITS:
            raise BitstreamError("range coder: the bytes name no symbol of a table")
        symbol = bisect_right(bounds, value) - 1
        self._offset -= part * bounds[symbol]
        self._range = part * (bounds[symbol + 1] - bounds[symbol])
        self._widen()
        return symbol

    def _widen(self) -> None:
        while self._range < _LEAST_RANGE:
            byte = self._data[self._position] if self._position < len(self._data) else 0
            self._range <<= 8
            self._offset = self._offset << 8 | byte
            self._position += 1

    def end_frame(self) -> None:
        """Checks, after a frame's last symbol, that its bytes are the ones that an encoder writes for these symbols.

        Raises BitstreamError if they are not: too many, a shorter string would have done, or it is not the lowest one.
        """
        surplus = self._position - len(self._data)
        if surplus < 0:
            raise BitstreamError(f"range coder: a frame of {len(self._data)} bytes has {-surplus} too many")
        unit = 1 << 8 * surplus
        if self._offset >= unit:
            raise BitstreamError(f"range coder: the {len(self._data)} bytes of a frame are not the lowest of their interval")
        if self._data and (self._data[-1] == 0 or self._offset + (256 - self._data[-1]) * unit < self._range):
            raise BitstreamError(f"range coder: a frame of {len(self._data)} bytes could have been shorter")

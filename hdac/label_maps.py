"""Lossless coding of label maps, frame by frame: segmentations of a face that change little from one picture to the next.

A map is uint8 (h, w), of labels 0 to N_LABELS - 1. Its layer is the bytes of one `hdac.range_coder` frame:

    per row:
      1 bit      it is not that of the map before (adaptive, by whether the row above was)
      then, if so, per sample:
        1 bit    not the label of the map before, T. Context: which of the neighbours W, NW, N, NE changed from that map, and
                 whether T is also what lies to its right and below
        then, if so, one of its neighbours W, N, NE, NW that has not been ruled out yet:
          1 bit  not this one (adaptive, by how many are left and which it is)
        or, if none of them, 4 bits of a binary tree with adaptive contexts

The map before the first is all 0; contexts live as long as the stream. Nothing that is beyond the map's edge has changed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.errors import BitstreamError, InputError
from hdac.range_coder import Context, RangeDecoder, RangeEncoder

CLASSES = (
    *("background", "skin", "hair", "clothes", "nose", "upper lip", "inner mouth", "lower lip"),
    *("left brow", "right brow", "left eye", "right eye", "left ear", "right ear", "other"),
)
"""Of a face; left and right are the picture's."""
N_LABELS = len(CLASSES)
MIRRORED_CLASSES = ((8, 9), (10, 11), (12, 13))
"""Those that change places when left and right do."""
_LABEL_BITS = 4
_NEIGHBOURS = ((0, -1), (-1, 0), (-1, 1), (-1, -1))

LabelMap = NDArray[np.uint8]


class _Model:
    """What both sides know. Maps have an edge of one sample around them, of a label that no sample has."""

    OUTSIDE = 255

    def __init__(self, height: int, width: int) -> None:
        if not 1 <= height <= 1024 or not 1 <= width <= 1024:
            raise InputError(f"label maps of {width}x{height} cannot be coded, only of up to 1024 a side")
        self.shape = height, width
        self.last = self._framed(np.zeros(self.shape, np.uint8))
        self.row_contexts = [Context(0.5), Context(0.5)]
        self.same_contexts = [Context(0.9, weight=4) for _ in range(64)]
        self.neighbour_contexts = [Context() for _ in range(16)]
        self.tree_contexts = [Context() for _ in range(1 << _LABEL_BITS)]

    def _framed(self, labels: LabelMap) -> list[list[int]]:
        rows: list[list[int]] = np.pad(labels, 1, constant_values=self.OUTSIDE).tolist()
        return rows

    def code(self, labels: LabelMap | None, encoder: RangeEncoder, decoder: RangeDecoder | None) -> LabelMap:
        """One map, encoded, or decoded where there is a decoder; returns it."""
        height, width = self.shape
        now = self._framed(np.zeros(self.shape, np.uint8) if labels is None else labels)
        before = self.last

        def bit(context: Context, value: bool) -> bool:
            if decoder is not None:
                return bool(decoder.decode(context))
            encoder.encode(context, int(value))
            return value

        changed = False
        for r in range(1, height + 1):
            row, old = now[r], before[r]
            changed = bit(self.row_contexts[changed], decoder is None and row != old)
            if not changed:
                now[r] = old.copy()
                continue
            above, old_above, old_below = now[r - 1], before[r - 1], before[r + 1]
            for c in range(1, width + 1):
                t = old[c]
                number = (
                    (row[c - 1] != old[c - 1])
                    + 2 * (above[c] != old_above[c])
                    + 4 * (above[c + 1] != old_above[c + 1])
                    + 8 * (above[c - 1] != old_above[c - 1])
                    + 16 * (t != old[c + 1])
                    + 32 * (t != old_below[c])
                )
                if not bit(self.same_contexts[number], row[c] != t):
                    row[c] = t
                    continue
                row[c] = self._other(row[c], [now[r + dy][c + dx] for dy, dx in _NEIGHBOURS], t, bit)
            if row == old:
                raise BitstreamError("label maps: a row that changes is that of the map before")
        self.last = now
        return np.array(now, np.uint8)[1:-1, 1:-1]

    def _other(self, label: int, near: list[int], t: int, bit: Callable[[Context, bool], bool]) -> int:
        """A label that is not t."""
        candidates = [n for n in dict.fromkeys(near) if n not in (t, self.OUTSIDE)]
        for i, candidate in enumerate(candidates):
            if not bit(self.neighbour_contexts[4 * len(candidates) - 4 + i], label != candidate):
                return candidate
        node = 1
        for k in reversed(range(_LABEL_BITS)):
            node = 2 * node + bit(self.tree_contexts[node], bool(label >> k & 1))
        found = node - (1 << _LABEL_BITS)
        if found >= N_LABELS or found == t or found in candidates:
            raise BitstreamError(f"label maps: label {found} where it cannot be")
        return found


class LabelEncoder:
    """Maps in, the bytes of each out; none where nothing has changed."""

    def __init__(self, height: int, width: int) -> None:
        self._model = _Model(height, width)

    def encode(self, labels: LabelMap) -> bytes:
        """The next map, uint8 (h, w). Raises InputError for another shape, and for labels there are not."""
        if labels.shape != self._model.shape or labels.dtype != np.uint8 or labels.max() >= N_LABELS:
            raise InputError(
                f"expected a label map uint8 {self._model.shape} below {N_LABELS}, got {labels.dtype} {labels.shape} "
                f"up to {labels.max()}"
            )
        coder = RangeEncoder()
        self._model.code(labels, coder, None)
        return coder.frame_bytes()


class LabelDecoder:
    """The mirror image of LabelEncoder."""

    def __init__(self, height: int, width: int) -> None:
        self._model = _Model(height, width)

    def decode(self, frame_bytes: bytes) -> LabelMap:
        """The next map. Raises BitstreamError for bytes that no encoder writes."""
        coder = RangeDecoder()
        coder.feed(frame_bytes)
        labels = self._model.code(None, RangeEncoder(), coder)
        coder.end_frame()
        return labels

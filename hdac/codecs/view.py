"""Free view: a face seen from elsewhere, by the decoder's own choice (Wang et al., CVPR 2021, section 3.2)."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol, runtime_checkable

from data.clip import Clip


class View(NamedTuple):
    """From where a face is seen: what is added to the head pose that was sent.

    angles: yaw, pitch, roll in degrees; positive ones turn the face to the picture's left, upwards, and clockwise.
    translation: x, y, z in units of keypoints (the picture is 2 wide).
    """

    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def is_own(self) -> bool:
        return not any((*self.angles, *self.translation))


@runtime_checkable
class Viewable(Protocol):
    """A codec whose streams can be seen from elsewhere."""

    def decode_view(self, bitstream: bytes, view: View, wanted: Collection[int] | None = None) -> Clip:
        """As `hdac.decoder.decode_view`."""

"""What DAC, face-vid2vid and the mobile family share: reference pictures of their own, and when they are renewed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from baselines.stream import StreamHeader
from data.clip import Clip
from data.errors import InputError
from hdac.codecs import face_box
from hdac.codecs import reference as reference_picture
from hdac.codecs.base_layer import Planes
from hdac.codecs.layered import LayeredCodec
from hdac.codecs.refresh import PRICE, RULES, Refresh, check_rule
from hdac.container import LayeredHeader


@dataclass(frozen=True, kw_only=True)
class AnimationCodec(LayeredCodec):
    """A codec that animates references; moved along its curve by their QP."""

    qp: int
    """Of the references."""
    reference_codec: str = "bpg"
    """Of the references: "bpg", "vvc" or "learned" (`hdac.codecs.reference`)."""
    refresh: str = "rd"
    """When a new reference is sent: one of `hdac.codecs.refresh.RULES`."""
    refresh_price: float = PRICE
    """Of "rd": of a bit of a new reference, in Lagrangian factors of its QP."""
    threshold_db: float = 33.0
    """Of "psnr"; the authors' driver of DAC has 33."""
    intra_period: int = 0
    """Frames from one new reference to the next, besides `refresh`; 0: none."""

    REFRESHES: ClassVar[tuple[str, ...]] = RULES
    """What `refresh` may be."""

    def __post_init__(self) -> None:
        check_rule(self.refresh, self.REFRESHES)
        if not self.refresh_price > 0:
            raise InputError(f"refresh_price {self.refresh_price} is not positive")
        reference_picture.check(self.reference_codec, self.qp)

    @property
    def coarsest(self) -> int:
        return reference_picture.MAX_QP[self.reference_codec]

    @property
    def codec_label(self) -> str:
        """The references' codec and QP: "QP 36", "VVC QP 36"."""
        return f"{'' if self.reference_codec == 'bpg' else f'{self.reference_codec.upper()} '}QP {self.qp}"

    @property
    def refresh_label(self) -> str:
        """The rule in a few words."""
        rule = f"refresh < {self.threshold_db:g} dB" if self.refresh == "psnr" else f"refresh {self.refresh}"
        return rule + f" x {self.refresh_price:g}" * (self.refresh_price != PRICE)

    def command(self, clip: Clip) -> str:
        return repr(self)

    def refresh_rule(self) -> Refresh:
        """The rule, at the beginning of a clip."""
        return Refresh(self.refresh, self.qp, self.threshold_db, self.refresh_price)

    def header(self, clip: Clip, **more: Any) -> LayeredHeader:
        """Of a stream of this codec; `more`: what only some systems have, by the header's names."""
        return LayeredHeader(
            StreamHeader.of(clip, self.name),
            reference_qp=self.qp,
            reference_codec=self.reference_codec,
            keypoints_sent=True,
            checksum_interval=self.checksum_interval,
            face_box=face_box.find(clip),
            **more,
        )

    def new_picture(self, clip: Clip, t: int) -> tuple[bytes, Planes]:
        """A frame as a reference picture: its bytes, and what they decode to."""
        picture = reference_picture.encode((clip.y[t], clip.u[t], clip.v[t]), clip.colour, self.qp, self.reference_codec)
        return picture, reference_picture.decode(picture, clip.height, clip.width, self.reference_codec, clip.colour)

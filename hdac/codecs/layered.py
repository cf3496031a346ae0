"""What the layered codecs share: the quantiser, the base layer's settings, and decoding from bytes or from a pipe."""

from __future__ import annotations

import io
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from baselines.conventional import MAX_QUANTISER, X265, Vvenc
from baselines.stream import Ledger
from data.clip import Clip
from data.errors import BitstreamError, InputError
from hdac import container
from hdac.codecs import base_layer
from hdac.codecs.base_layer import BasePicture, Planes
from hdac.container import BASE_STEPS, LayeredHeader, Reader, Unit
from hdac.keypoints import KeypointSettings

if TYPE_CHECKING:
    from typing_extensions import Self

    from hdac.nets.keypoints import DetectorSettings


I_OFFSETS = (6, 12)
"""QP steps by which intra pictures may be finer: as in the hull of the x265 anchor but for 0, which takes half as much time
again and lowers the cost by 0.15 % on average (training clips)."""

TRIAL_SAMPLES = 512 * 512
"""Luma samples of the largest picture whose base layer is coded in several ways to find the best; larger ones would take
minutes."""

TRIAL_PRICE = 10.0
"""Of a bit in the choice of a base layer, in Lagrangian factors: how steep the curves of whole clips are. Chosen on training
clips; between 6 and 12 the choice hardly changes."""

MAX_SIDE = 1920
"""Of pictures that are coded: a guard of the memory. Networks see less of them (`hdac.codecs.face_box`)."""


def check_size(width: int, height: int) -> None:
    """Raises InputError for pictures that are too large."""
    if max(width, height) > MAX_SIDE:
        raise InputError(f"pictures of up to {MAX_SIDE} a side are coded, not {width}x{height}")


def lagrange_multiplier(qp: int) -> float:
    """Squared error per bit: HM's lambda of an intra picture."""
    return float(0.57 * 2 ** ((qp - 12) / 3))


def keypoint_settings(detector: DetectorSettings, header: LayeredHeader) -> KeypointSettings:
    """What is sent of this detector's keypoints. Raises BitstreamError where the header says something else."""
    if header.keypoints_sent and header.jacobians != detector.jacobians:
        raise BitstreamError(f"the stream says jacobians={header.jacobians}, its network {detector.jacobians}")
    return KeypointSettings(detector.n_keypoints, header.keypoint_step, header.jacobians)


def squared_error(source: Planes, shown: Planes) -> float:
    """Summed over all samples of the three planes."""
    return sum(float(((a.astype(np.float32) - b) ** 2).sum()) for a, b in zip(source, shown, strict=True))


def checked_units(reader: Reader) -> Iterator[Unit]:
    """The units of a stream. Raises BitstreamError for layers that its header does not speak of, for frames that have none, and
    for pictures that are too large."""
    header = reader.header
    if header.stream.standard != "hevc-stripped":
        try:
            check_size(header.stream.width, header.stream.height)
        except InputError as error:
            raise BitstreamError(str(error)) from error
    for t, received in enumerate(reader.units()):
        unit = received.unit
        unexpected = {
            "a reference": unit.reference is not None and header.reference_codec == "base",
            "keypoints": unit.keypoints is not None and not header.keypoints_sent,
            "a residual": unit.residual is not None and not header.residual_id,
            "a fused picture": unit.strength > 0 and header.stream.standard not in ("hdac", "face-vid2vid"),
        }
        if not unit.repeated and unit.base is None and unit.keypoints is None and unit.reference is None:
            raise BitstreamError(f"frame {t} has neither a base picture nor keypoints nor a reference")
        if header.has_base_picture(0) and unit.base is None and unit.reference is not None:
            raise BitstreamError(f"frame {t} has a reference without a base picture")
        for name, there in unexpected.items():
            if there:
                raise BitstreamError(f"frame {t} has {name}, of which the header says nothing")
        yield unit


@dataclass(frozen=True, kw_only=True)
class LayeredCodec(ABC):
    """A codec of the `.hdac` container whose curve is moved along by `qp`."""

    qp: int
    checksum_interval: int = 50
    """Units between two checksums; 0: no checksum."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def label(self) -> str:
        """Setting in a few words."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of our code, of the encoder in it and of the weights."""

    @abstractmethod
    def command(self, clip: Clip) -> str:
        """What was run."""

    @abstractmethod
    def encode(self, clip: Clip) -> bytes:
        """The whole stream."""

    @property
    def quantiser(self) -> int:
        return self.qp

    def with_quantiser(self, quantiser: int) -> Self:
        """The same setting at another QP. Raises InputError where HEVC has no such step."""
        return replace(self, qp=quantiser)

    def decode(self, bitstream: bytes) -> Clip:
        from hdac.decoder import decode

        return decode(bitstream)

    def ledger(self, bitstream: bytes) -> Ledger:
        return container.ledger(io.BytesIO(bitstream))

    @property
    def coarsest(self) -> int:
        """The last quantiser that there is."""
        return MAX_QUANTISER["hevc"]


@dataclass(frozen=True, kw_only=True)
class BaseLayerCodec(LayeredCodec):
    """A layered codec with a base layer, whose P pictures have `qp`."""

    i_offset: int | None = None
    """QP steps by which its intra pictures are finer, at most `qp`. None: what is best for the clip, see `settled`."""
    preset: str | None = None
    """Of the base layer's encoder; None: that of the anchors, "slow" for x265 and "medium" for libvvenc."""
    lean: bool | None = None
    """x265's. None: what is best for the clip."""
    intra_period: int = 0
    """Frames of the clip from one intra picture to the next, rounded up to a multiple of base_every; 0: only the first."""
    base_every: int = 1
    """Only every 1st, 2nd or 3rd frame has a base picture."""
    base_half: bool = False
    """Base pictures are coded at half width and height (`hdac.half_size`)."""

    def __post_init__(self) -> None:
        if self.base_every not in BASE_STEPS:
            raise InputError(f"base_every={self.base_every} is not one of {BASE_STEPS}")
        if self.i_offset is not None and not 0 <= self.i_offset <= self.qp:
            raise InputError(f"i_offset={self.i_offset} is not between 0 and qp={self.qp}")
        _ = self.base_encoder  # which checks its settings

    @property
    def base_encoder(self) -> X265 | Vvenc:
        """The encoder of the base layer; where a choice is open, the first of those that there are."""
        offset, lean = self.choices[0]
        return X265(
            qp=self.qp,
            preset=self.preset or X265.preset,
            lean=lean,
            i_offset=offset,
            intra_period=self.base_intra_period,
        )

    @property
    def choices(self) -> list[tuple[int, bool]]:
        """Every i_offset and lean where they are left open; the first is a good one for any clip."""
        usual = 6 if self.intra_period else 12
        offsets = sorted(I_OFFSETS, key=lambda n: abs(n - usual)) if self.i_offset is None else [self.i_offset]
        lean = (True, False) if self.lean is None else (self.lean,)
        return list(dict.fromkeys((min(offset, self.qp), one) for offset in offsets for one in lean))

    def candidates(self, clip: Clip) -> list[Self]:
        """This codec with each choice that is tried on a clip. VVC's, and those of pictures of more than TRIAL_SAMPLES, are not
        tried: it takes too long."""
        alone = clip.width * clip.height > TRIAL_SAMPLES or isinstance(self.base_encoder, Vvenc)
        return [replace(self, i_offset=offset, lean=lean) for offset, lean in self.choices[: 1 if alone else None]]

    def settled(self, clip: Clip) -> tuple[Self, list[BasePicture]]:
        """This codec with nothing left open, and its base layer of the clip: of its candidates the one with the least squared
        error against true bits."""
        candidates = self.candidates(clip)
        if len(candidates) == 1:
            return candidates[0], candidates[0].base_pictures(clip)
        best: list[tuple[float, int, list[BasePicture]]] = []
        lock = threading.Lock()

        def attempt(number: int) -> None:
            pictures = candidates[number].base_pictures(clip)
            cost = self._cost(clip, pictures)
            with lock:  # a base layer that is behind is dropped at once: it takes as much memory as the clip
                if not best or (cost, number) < best[0][:2]:
                    best[:] = [(cost, number, pictures)]

        with ThreadPoolExecutor(2) as pool:  # encoders run beside Python
            list(pool.map(attempt, range(len(candidates))))
        return candidates[best[0][1]], best[0][2]

    def _cost(self, clip: Clip, pictures: list[BasePicture]) -> float:
        """Of a base layer: squared error over all samples of its frames, and the price of its bits."""
        frames = ((clip.y[t], clip.u[t], clip.v[t]) for t in range(0, clip.n_frames, self.base_every))
        error = sum(squared_error(source, one.planes) for source, one in zip(frames, pictures, strict=True))
        return error + TRIAL_PRICE * lagrange_multiplier(self.qp) * 8 * sum(len(one.payload) for one in pictures)

    @property
    def base_intra_period(self) -> int:
        """`intra_period` in base pictures."""
        return -(-self.intra_period // self.base_every)

    @property
    def base_label(self) -> str:
        """What is special about the base layer's pictures, in a few words: " 1/2 rate half size"."""
        return f" 1/{self.base_every} rate" * (self.base_every > 1) + " half size" * self.base_half

    @property
    def chosen_label(self) -> list[str]:
        """What is not left open: "lean" or "base", "I-12"."""
        lean = [] if self.lean is None else ["lean" if self.lean else "base"]
        return lean + ([] if self.i_offset is None else [f"I-{self.i_offset}"])

    def base_command(self, clip: Clip) -> str:
        """The base layer encoder's command line; where several were tried, the first."""
        n_tried = len(self.candidates(clip))
        tried = f"the best of {n_tried} like " if n_tried > 1 else ""
        return tried + self.base_encoder.command(base_layer.base_clip(clip, self.base_every, self.base_half))

    def base_pictures(self, clip: Clip) -> list[BasePicture]:
        """The base layer of a clip."""
        return base_layer.encode(self.base_encoder, clip, self.base_every, self.base_half)

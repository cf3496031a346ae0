"""DAC: Konuko, Valenzise, Lathuiliere, "Ultra-low bitrate video conferencing using deep image animation", ICASSP 2021.

    first frame ------------> BPG, or another still ----> reference, shown as it is
    every other frame ------> keypoints, range coded ---> reference, animated
    where that is not enough: a new reference, or a return to one of those sent before

Open loop: nothing but references and keypoints is sent, so a frame never depends on a network's output. When to refresh:

    rd     ours: as soon as what the old reference has lost, summed up since it was sent, exceeds what a new one costs
           (a ski rental: at most twice the cost of an encoder that knew the future), distortion against true bits by the
           Lagrangian factor of HEVC's reference software for the reference's QP
    psnr   the paper's: where the smoothed PSNR-Y of the animation falls below a threshold; ours: at a scene cut, which one
           frame far below it is, without the frame that smoothing would wait for
    never  a scene cut, too, is animated from what there is

Of large pictures a box around the face is animated, and all else is the reference's (`hdac.codecs.face_box`). What the rules
compare are whole pictures: a background that has changed is a reason for a new reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from baselines.stream import StreamHeader
from data.clip import Clip
from data.errors import BitstreamError, InputError
from hdac import weights
from hdac.codecs import face_box
from hdac.codecs import reference as reference_picture
from hdac.codecs.base_layer import Planes
from hdac.codecs.in_flight import at_once, in_flight, same
from hdac.codecs.layered import LayeredCodec, check_size, checked_units, keypoint_settings, lagrange_multiplier
from hdac.container import LayeredHeader, Reader, Unit, Writer
from hdac.keypoints import KeypointDecoder, KeypointEncoder, Points, parities, settle

if TYPE_CHECKING:
    from hdac.codecs.animator import Animator, Reference

CODE_VERSION = 4
"""Raised with every change that can change a stream or a decoded frame."""

MAX_REFERENCES = 4
"""Chosen: references that both sides keep; a return to one of them costs two bytes."""

_NEW = 0
"""First byte of a reference layer: 0 and a picture; or n and nothing more: the reference that was in use n before the
present one. Both sides keep the last MAX_REFERENCES in order of use."""

REFRESH = ("rd", "psnr", "never")

CUT_DB = 10.0
"""Chosen: a frame whose PSNR-Y is that far below the threshold is no animation of the reference, but another scene."""


WORSE = 1.1
"""Chosen: references of before are tried where the error is so much larger than when they were tried last, or since."""


@dataclass(frozen=True, kw_only=True)
class Dac(LayeredCodec):
    """The animation codec; moved along its curve by the QP of its references."""

    qp: int
    """Of the references."""
    reference_codec: str = "bpg"
    """Of the references: "bpg", "vvc" or "learned" (`hdac.codecs.reference`)."""
    refresh: str = "rd"
    """When a new reference is sent: one of REFRESH."""
    threshold_db: float = 33.0
    """Of "psnr"; the authors' driver has 33."""
    intra_period: int = 0
    """Frames from one new reference to the next, besides `refresh`; 0: none."""
    best_look: bool = False
    keypoint_step: int = 128
    network: str = "lite"

    name: ClassVar[str] = "dac"

    def __post_init__(self) -> None:
        if self.refresh not in REFRESH:
            raise InputError(f"refresh {self.refresh!r} is not one of {', '.join(REFRESH)}")
        reference_picture.check(self.reference_codec, self.qp)

    @property
    def coarsest(self) -> int:
        return reference_picture.MAX_QP[self.reference_codec]

    @property
    def label(self) -> str:
        rule = f"refresh < {self.threshold_db:g} dB" if self.refresh == "psnr" else f"refresh {self.refresh}"
        codec = "" if self.reference_codec == "bpg" else f" {self.reference_codec.upper()}"
        return f"DAC{codec} QP {self.qp} {rule}{' look' if self.best_look else ''}"

    @property
    def version(self) -> str:
        coder = reference_picture.version(self.reference_codec, self.qp)
        return f"{CODE_VERSION} {weights.weights_id(weights.find(self.network)).hex()} {coder}"

    def command(self, clip: Clip) -> str:
        return repr(self)

    # -- encoder -----------------------------------------------------------------------------------------------------

    def encode(self, clip: Clip) -> bytes:
        """The whole stream."""
        check_size(clip.width, clip.height)
        from hdac import network as networks  # PyTorch takes a second: not in a process that codes without it
        from hdac.codecs.animator import Animator

        network = networks.by_name(self.network)
        header = LayeredHeader(
            StreamHeader.of(clip, self.name),
            reference_qp=self.qp,
            best_look=self.best_look,
            reference_codec=self.reference_codec,
            keypoints_sent=True,
            keypoint_step=self.keypoint_step,
            jacobians=network.net.settings.detector.jacobians,
            checksum_interval=self.checksum_interval,
            weights_id=network.weights_id,
            face_box=face_box.find(clip),
        )
        animator = Animator(network, None, self.qp, self.best_look, header.face_box)
        motion = KeypointEncoder(keypoint_settings(network.net.settings.detector, header))
        buffer = _Buffer()
        writer = Writer(header)
        parts, size = [writer.header], (clip.height, clip.width)
        rule = _Rule(self)
        for t in range(clip.n_frames):
            source = clip.y[t], clip.u[t], clip.v[t]
            layer: bytes | None = None
            if t > 0 and not (self.intra_period and t % self.intra_period == 0):
                symbols = motion.settings.quantise(*animator.keypoints(source))
                keypoints = motion.settings.dequantise(symbols)
                errors = [0.0]
                if self.refresh != "never" or len(buffer.references) > 1:  # else there is nothing to decide
                    errors = _errors(animator, buffer.references[:1], keypoints, source)
                    if rule.looks_back(errors[0]):
                        errors += _errors(animator, buffer.references[1:], keypoints, source)
                best = rule.best(errors)
                if not rule.wants_new(source, errors[best]):
                    if best > 0:
                        buffer.return_to(best)
                        layer = bytes((best,))
                    parts.append(writer.add(Unit(keypoints=motion.encode(symbols), reference=layer)))
                    continue
            picture = reference_picture.encode(source, clip.colour, self.qp, self.reference_codec)
            decoded = reference_picture.decode(picture, *size, self.reference_codec, clip.colour)
            symbols = motion.settings.quantise(*animator.refer_to(decoded))
            motion.start(symbols)
            animator.rest_at(motion.settings.dequantise(symbols))
            assert animator.reference is not None
            buffer.add(animator.reference)
            rule.refreshed(source, decoded, 8 * len(picture))
            parts.append(writer.add(Unit(keypoints=parities(symbols), reference=bytes((_NEW,)) + picture)))
        return b"".join(parts) + writer.finish()


def _errors(animator: Animator, references: list[Reference], keypoints: Points, source: Planes) -> list[float]:
    """Squared errors of luma where these references are animated."""
    height, width = source[0].shape
    tasks = [animator.task(None, keypoints, (height, width), reference=one) for one in references]
    return [_squared_error_y(source, shown) for shown in in_flight(tasks, min(at_once(), max(1, len(tasks))))]


class _Buffer:
    """References that encoder and decoder keep, the one in use first."""

    def __init__(self) -> None:
        self.references: list[Reference] = []

    def add(self, reference: Reference) -> None:
        self.references = [reference, *self.references][:MAX_REFERENCES]

    def return_to(self, index: int) -> Reference:
        """Brings a reference to the front."""
        if not 0 < index < len(self.references):
            raise BitstreamError(f"reference {index} of a buffer of {len(self.references)}")
        self.references.insert(0, self.references.pop(index))
        return self.references[0]


class _Rule:
    """When to send a new reference."""

    def __init__(self, codec: Dac) -> None:
        self.codec = codec
        self.factor = lagrange_multiplier(codec.qp)
        self.price = self.floor = self.lost = self.smoothed_db = self.looked_at = 0.0

    def refreshed(self, source: Planes, decoded: Planes, bits: int) -> None:
        """A new reference was sent: what it cost, and the error that it leaves in its own frame."""
        self.floor, self.price, self.lost = _squared_error_y(source, decoded), self.factor * bits, 0.0
        self.smoothed_db, self.looked_at = _psnr_y(self.floor, source), self.floor

    def looks_back(self, error: float) -> bool:
        """Whether to try references of before, which takes as much time each as the one in use."""
        return error > WORSE * self.looked_at

    def best(self, errors: list[float]) -> int:
        """Index of the reference to animate; another one than that in use must be worth its two bytes."""
        costs = [error + (self.factor * 16 if i else 0.0) for i, error in enumerate(errors)]
        best = int(np.argmin(costs))
        self.looked_at = min(errors[best], self.looked_at) if len(errors) == 1 else errors[best]
        return best

    def wants_new(self, source: Planes, error: float) -> bool:
        """Whether this frame should be a new reference."""
        if self.codec.refresh == "rd":
            self.lost += max(0.0, error - self.floor)
            return self.lost > self.price
        if self.codec.refresh == "psnr":
            now_db = _psnr_y(error, source)
            self.smoothed_db = (self.smoothed_db + now_db) / 2
            return self.smoothed_db < self.codec.threshold_db or now_db < self.codec.threshold_db - CUT_DB
        return False


def _squared_error_y(source: Planes, shown: Planes) -> float:
    """Sum over luma."""
    return float(((source[0].astype(np.float32) - shown[0]) ** 2).sum())


def _psnr_y(squared_error: float, source: Planes) -> float:
    return float(10 * np.log10(255.0**2 * source[0].size / max(squared_error, 1.0)))


# -- decoder ---------------------------------------------------------------------------------------------------------


def decode(reader: Reader, ahead: bool = False) -> Iterator[Planes]:
    """Pictures as their units arrive or, ahead of that, several at once (`hdac.codecs.in_flight`).

    Raises BitstreamError for damage, WeightsMismatch for weights that are not here.
    """
    return in_flight(_tasks(reader), at_once() if ahead else 1)


def _tasks(reader: Reader) -> Iterator[Callable[[], Planes]]:
    """Per frame what gives the picture shown."""
    from hdac import network as networks
    from hdac.codecs.animator import Animator

    header = reader.header
    if header.reference_codec == "base":
        raise BitstreamError("DAC has references of its own, the header says those of a base layer")
    network = networks.by_id(header.weights_id)
    animator = Animator(network, None, header.reference_qp, header.best_look, header.face_box)
    motion = KeypointDecoder(keypoint_settings(network.net.settings.detector, header))
    buffer = _Buffer()
    size = header.stream.height, header.stream.width
    for unit in checked_units(reader):
        if unit.keypoints is None:
            raise BitstreamError("a frame without keypoints")
        if unit.reference is not None and unit.reference[:1] == bytes((_NEW,)):
            picture, colour = unit.reference[1:], header.stream.colour
            shown = reference_picture.decode(picture, *size, header.reference_codec, colour)
            symbols = settle(motion.settings, animator.refer_to(shown), unit.keypoints)
            motion.start(symbols)
            animator.rest_at(motion.settings.dequantise(symbols))
            assert animator.reference is not None
            buffer.add(animator.reference)
            yield partial(same, shown)
            continue
        if unit.reference is not None:
            if len(unit.reference) != 1:
                raise BitstreamError(f"a reference layer of {len(unit.reference)} bytes, first {unit.reference[:1].hex()}")
            buffer.return_to(unit.reference[0])
        if not buffer.references:
            raise BitstreamError("a frame in front of the first reference")
        animator.reference = buffer.references[0]
        keypoints = motion.settings.dequantise(motion.decode(unit.keypoints))
        yield animator.task(None, keypoints, size)

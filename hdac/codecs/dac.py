"""DAC: Konuko, Valenzise, Lathuiliere, "Ultra-low bitrate video conferencing using deep image animation", ICASSP 2021.

    first frame ------------> BPG, or another still ----> reference, shown as it is
    every other frame ------> keypoints, range coded ---> reference, animated
    where that is not enough: a new reference, or a return to one of those sent before, or a residual

Open loop: nothing but references and keypoints is sent, so a frame never depends on a network's output (but where residuals are
sent, see `hdac.codecs.residual`; a picture that one has enhanced is then animated for best look, or every further one would
blur it again). When to refresh says `hdac.codecs.refresh`.

Of large pictures a box around the face is animated, and all else is the reference's (`hdac.codecs.face_box`). What the rules
compare are whole pictures: a background that has changed is a reason for a new reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from data.clip import Clip
from data.errors import BitstreamError
from hdac import weights
from hdac.codecs import reference as reference_picture
from hdac.codecs.animation import AnimationCodec
from hdac.codecs.base_layer import Planes
from hdac.codecs.in_flight import alone, at_once, in_flight, same
from hdac.codecs.layered import (
    check_size,
    checked_units,
    keypoint_settings,
    squared_error,
)
from hdac.codecs.refresh import RESIDUAL_VERSION, ResidualRule, squared_error_y
from hdac.container import Reader, Unit, Writer
from hdac.keypoints import KeypointDecoder, KeypointEncoder, KeypointSettings, Points, parities, settle

if TYPE_CHECKING:
    from hdac.codecs.animator import Animator, Reference

CODE_VERSION = 4
"""Raised with every change that can change a stream or a decoded frame."""

ENHANCED_VERSION = 1
"""Raised with every change of streams that have residuals, and of no others."""

MAX_REFERENCES = 4
"""Chosen: references that both sides keep; a return to one of them costs two bytes."""

_NEW = 0
"""First byte of a reference layer: 0 and a picture; or n and nothing more: the reference that was in use n before the
present one. Both sides keep the last MAX_REFERENCES in order of use."""


@dataclass(frozen=True, kw_only=True)
class Dac(AnimationCodec):
    """The animation codec."""

    residual: bool = False
    """Whether residuals are sent where they pay (`hdac.codecs.residual`): the enhanced frame is the reference from then on."""
    best_look: bool = False
    keypoint_step: int = 128
    network: str = "lite"
    residual_network: str = "residual"
    enhanced_as_sent: bool = field(default=False, repr=False)  # keys of streams without residuals stay what they were
    """Whether pictures that a residual has enhanced are animated as those that were sent."""

    name: ClassVar[str] = "dac"

    def __post_init__(self) -> None:
        super().__post_init__()
        KeypointSettings(step=self.keypoint_step)

    @property
    def label(self) -> str:
        as_sent = " as sent" * (self.residual and self.enhanced_as_sent)
        return f"DAC {self.codec_label} {self.refresh_label}{' look' * self.best_look}{' residual' * self.residual}{as_sent}"

    @property
    def version(self) -> str:
        coder = reference_picture.version(self.reference_codec, self.qp)
        parts = [str(CODE_VERSION), weights.weights_id(weights.find(self.network)).hex()]
        if self.residual:
            parts += [weights.weights_id(weights.find(self.residual_network)).hex()]
            parts += [f"{RESIDUAL_VERSION}.{ENHANCED_VERSION}{' as sent' * self.enhanced_as_sent}"]
        return " ".join((*parts, coder))

    # -- encoder -----------------------------------------------------------------------------------------------------

    def encode(self, clip: Clip) -> bytes:
        """The whole stream."""
        check_size(clip.width, clip.height)
        from hdac import network as networks  # PyTorch takes a second: not in a process that codes without it
        from hdac.codecs.animator import Animator
        from hdac.codecs.residual import ResidualCoder
        from hdac.nets.hybrid import HybridNet
        from hdac.nets.residual import ResidualNet

        network = networks.by_name(self.network, HybridNet)
        residuals = networks.by_name(self.residual_network, ResidualNet) if self.residual else None
        header = self.header(
            clip,
            best_look=self.best_look,
            keypoint_step=self.keypoint_step,
            jacobians=network.net.settings.detector.jacobians,
            weights_id=network.weights_id,
            residual_id=residuals.weights_id if residuals else b"",
            enhanced_apart=residuals is not None and not self.enhanced_as_sent,
        )
        animator = Animator(network, None, self.qp, self.best_look, header.face_box, header.enhanced_apart)
        motion = KeypointEncoder(keypoint_settings(network.net.settings.detector, header))
        buffer = _Buffer()
        writer = Writer(header)
        parts, size = [writer.header], (clip.height, clip.width)
        rule, residual_rule = self.refresh_rule(), ResidualRule(self.qp)
        enhancer = ResidualCoder(residuals, size, header.face_box) if residuals else None
        for t in range(clip.n_frames):
            source = clip.y[t], clip.u[t], clip.v[t]
            layer: bytes | None = None
            coded: tuple[bytes, Planes] | None = None
            if t > 0 and not (self.intra_period and t % self.intra_period == 0):
                symbols = motion.settings.quantise(*animator.keypoints(source))
                keypoints = motion.settings.dequantise(symbols)
                candidates: list[Planes] = []
                errors = [0.0]
                if self.refresh != "never" or len(buffer.references) > 1 or enhancer:  # else there is nothing to decide
                    candidates = _pictures(animator, buffer.references[:1], keypoints, size)
                    errors = [squared_error_y(source, candidates[0])]
                    if rule.looks_back(errors[0]):
                        candidates += _pictures(animator, buffer.references[1:], keypoints, size)
                        errors = [squared_error_y(source, shown) for shown in candidates]
                best = rule.best(errors)
                wants_new = rule.wants_new(source, errors[best])
                extra = None
                if enhancer:
                    error = squared_error(source, candidates[best])
                    lacks = residual_rule.lacks(error)
                    wants_new |= lacks and not enhancer.may_go_on and self.refresh != "never"
                    if enhancer.may_go_on and (wants_new or lacks):
                        extra, enhanced, left = enhancer.find(source, candidates[best], residual_rule.multiplier)
                        options = {} if wants_new else {"nothing": (0, error)}
                        if extra is not None:
                            options["residual"] = 8 * len(extra), left
                        if wants_new or (extra is not None and self.refresh != "never"):
                            coded = self.new_picture(clip, t)
                            n_bytes = 1 + len(coded[0]) + len(parities(symbols))
                            options["picture"] = 8 * n_bytes, squared_error(source, coded[1])
                        best_option = residual_rule.cheapest(error, options)
                        wants_new = best_option == "picture"
                        if best_option != "residual":
                            extra = None
                        if best_option == "nothing":
                            residual_rule.refused()
                if extra is not None or not wants_new:
                    if best > 0:
                        buffer.return_to(best)
                        layer = bytes((best,))
                    if extra is not None and enhancer:
                        enhancer.count()
                        animator.refer_to(enhanced, enhanced=True)
                        animator.rest_at(keypoints)
                        buffer.add(_present(animator))
                        rule.enhanced(source, enhanced)
                        residual_rule.renewed(left, 8 * len(extra), error)
                    parts.append(writer.add(Unit(keypoints=motion.encode(symbols), reference=layer, residual=extra)))
                    continue
            picture, decoded = coded or self.new_picture(clip, t)
            symbols = motion.settings.quantise(*animator.refer_to(decoded))
            motion.start(symbols)
            animator.rest_at(motion.settings.dequantise(symbols))
            buffer.add(_present(animator))
            rule.refreshed(source, decoded, 8 * len(picture))
            residual_rule.renewed(squared_error(source, decoded))
            if enhancer:
                enhancer.begin_anew()
            parts.append(writer.add(Unit(keypoints=parities(symbols), reference=bytes((_NEW,)) + picture)))
        return b"".join(parts) + writer.finish()


def _pictures(animator: Animator, references: list[Reference], keypoints: Points, size: tuple[int, int]) -> list[Planes]:
    """What each of these references gives, animated."""
    tasks = [animator.task(None, keypoints, size, reference=one) for one in references]
    return list(in_flight(tasks, at_once()))


def _present(animator: Animator) -> Reference:
    assert animator.reference is not None
    return animator.reference


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
    from hdac.codecs.residual import ResidualCoder
    from hdac.nets.hybrid import HybridNet
    from hdac.nets.residual import ResidualNet

    header = reader.header
    if header.reference_codec == "base":
        raise BitstreamError("DAC has references of its own, the header says those of a base layer")
    network = networks.by_id(header.weights_id, HybridNet)
    animator = Animator(network, None, header.reference_qp, header.best_look, header.face_box, header.enhanced_apart)
    motion = KeypointDecoder(keypoint_settings(network.net.settings.detector, header))
    buffer = _Buffer()
    size = header.stream.height, header.stream.width
    enhancer = None
    if header.residual_id:
        enhancer = ResidualCoder(networks.by_id(header.residual_id, ResidualNet), size, header.face_box)
    for unit in checked_units(reader):
        if unit.keypoints is None:
            raise BitstreamError("a frame without keypoints")
        if unit.reference is not None and unit.reference[:1] == bytes((_NEW,)):
            picture, colour = unit.reference[1:], header.stream.colour
            shown = reference_picture.decode(picture, *size, header.reference_codec, colour)
            symbols = settle(motion.settings, motion.settings.unrounded(*animator.refer_to(shown)), unit.keypoints)
            motion.start(symbols)
            animator.rest_at(motion.settings.dequantise(symbols))
            buffer.add(_present(animator))
            if unit.residual is not None:
                raise BitstreamError("a new reference with a residual beside it")
            if enhancer:
                enhancer.begin_anew()
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
        task = animator.task(None, keypoints, size)
        if unit.residual is None:
            yield task
            continue
        assert enhancer is not None  # `checked_units` knows
        enhanced = enhancer.enhance(alone(task), unit.residual)
        animator.refer_to(enhanced, enhanced=True)
        animator.rest_at(keypoints)
        buffer.add(_present(animator))
        yield partial(same, enhanced)

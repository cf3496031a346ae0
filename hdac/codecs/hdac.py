"""H-DAC: Konuko et al., "A hybrid deep animation codec for low-bitrate video conferencing", ICIP 2022.

    clip -> HEVC or VVC base layer, header-stripped --------> decoded base layer --\\
                 its intra picture = animation reference ---> networks -------------> fused picture
                 keypoints: of the decoded base layer (0 bits), or sent ----------/

Unlike the paper, the default has one intra picture for both uses: the base layer's own, some QP finer than its P pictures,
which also makes the base layer better (`Hdac.paper` pays for a second one, as published). Frame by frame the encoder,
which runs the decoder's networks, decides by true distortion at which strength their correction of the base layer is shown,
from not at all to half as much again: the clip is never worse than its base layer in squared error. (With `best_look` it
may be: see there.)

Of large pictures the networks see a box around the face, and all else is the base layer's (`hdac.codecs.face_box`).

With `residual`, what the fused picture still lacks may follow it (`hdac.codecs.residual`); then it, and no decoded intra
picture, is the reference of the frames that come.

The base layer may have fewer or smaller pictures. Those of half size are brought to full size before anything else is done with
them. In a frame without one the reference is animated by keypoints alone, as in DAC, where they are sent and that is better
than to repeat the picture shown last or the base layer's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from baselines.conventional import MAX_QUANTISER, X265, Vvenc
from baselines.stream import StreamHeader
from data.clip import Clip
from data.crop import Box
from data.errors import BitstreamError, InputError
from hdac import weights
from hdac.codecs import base_layer, face_box
from hdac.codecs import reference as reference_picture
from hdac.codecs.base_layer import BasePicture, Planes
from hdac.codecs.in_flight import alone, at_once, in_flight, same
from hdac.codecs.layered import BaseLayerCodec, check_size, checked_units, keypoint_settings, lagrange_multiplier, squared_error
from hdac.codecs.refresh import RESIDUAL_VERSION, ResidualRule
from hdac.container import BASE_CODECS, FULL, LayeredHeader, Reader, Unit, Writer
from hdac.keypoints import KeypointDecoder, KeypointEncoder, KeypointSettings, parities, settle

if TYPE_CHECKING:
    from hdac.codecs.animator import Animator, Unrounded

CODE_VERSION = 4
"""Raised with every change that can change a stream or a decoded frame."""

STRENGTHS = (1, 2, 3)
"""Beside none; in halves of the networks' correction. Choices for blocks of 64x64 gained 0.01 to 0.03 dB more than for
pictures, which their flags would have cost."""

TOLERATED = 1.25
"""Chosen: how much worse in 1 - SSIM a fused picture may be where best look is wanted."""


@dataclass(frozen=True, kw_only=True)
class Hdac(BaseLayerCodec):
    """The hybrid codec; moved along its curve by the base layer's QP."""

    base_codec: str = "hevc"
    """Of the base layer: "hevc" (x265) or "vvc" (libvvenc)."""
    best_look: bool = False
    """Ask the network for best look rather than least error, and show its pictures unless their 1 - SSIM is much worse than
    the base layer's: what looks best is not what measures best."""
    reference_qp: int | None = None
    """QP of a picture of its own that is sent beside every intra picture of the base layer, as the paper does, serves as
    reference and is shown; it then moves the codec along its curve. None: the base layer's picture is the reference."""
    reference_codec: str = "bpg"
    """Of that picture: "bpg", "vvc" or "learned" (`hdac.codecs.reference`)."""
    always_fused: bool = False
    """As in the paper: the base layer is never shown."""
    send_keypoints: bool = False
    """Send keypoints of the source; else the decoder detects them on the base layer."""
    keypoint_step: int = 128
    residual: bool = False
    """Whether residuals of the pictures shown are sent where they pay (`hdac.codecs.residual`): the enhanced frame is the
    reference of the animation from then on."""
    network: str = "lite"
    residual_network: str = "residual"

    name: ClassVar[str] = "hdac"

    def __post_init__(self) -> None:
        if self.base_codec not in BASE_CODECS:
            raise InputError(f"base codec {self.base_codec!r} is not one of {', '.join(BASE_CODECS)}")
        if self.base_codec != "hevc" and self.lean is False:
            raise InputError(f"lean=False is for x265, not for a base layer of {self.base_codec}")
        super().__post_init__()
        KeypointSettings(step=self.keypoint_step)  # which checks it, before a base layer is coded
        if self.reference_qp is not None:
            reference_picture.check(self.reference_codec, self.reference_qp)
        elif self.reference_codec != "bpg":
            raise InputError(f"reference_codec={self.reference_codec!r} needs a reference_qp")

    @classmethod
    def paper(cls, reference_qp: int, intra_period: int = 0) -> Hdac:
        """The published setting: full size, base layer at QP 50 with its own intra at the same QP, a separate BPG picture as
        reference, keypoints sent at 8 bits, always fused."""
        return cls(
            qp=50,
            i_offset=0,
            lean=False,
            intra_period=intra_period,
            reference_qp=reference_qp,
            always_fused=True,
            send_keypoints=True,
            checksum_interval=0,
        )

    @property
    def quantiser(self) -> int:
        return self.qp if self.reference_qp is None else self.reference_qp

    def with_quantiser(self, quantiser: int) -> Hdac:
        """The same setting at another QP: of the base layer, or of the separate references where there are any."""
        if self.reference_qp is None:
            return replace(self, qp=quantiser)
        return replace(self, reference_qp=quantiser)

    @property
    def coarsest(self) -> int:
        if self.reference_qp is not None:
            return reference_picture.MAX_QP[self.reference_codec]
        return MAX_QUANTISER[self.base_codec]

    @property
    def choices(self) -> list[tuple[int, bool]]:
        if self.i_offset is None and self.reference_qp is not None:  # the base layer's intra pictures are not shown
            return replace(self, i_offset=0).choices
        if self.best_look:  # what has least error looks worse: LPIPS takes about a seventh fewer bytes with these
            return [(min(12, self.qp) if self.i_offset is None else self.i_offset, self.lean is not False)]
        return super().choices

    @property
    def base_encoder(self) -> X265 | Vvenc:
        if self.base_codec == "hevc":
            return super().base_encoder
        offset, _ = self.choices[0]
        return Vvenc(qp=self.qp, preset=self.preset or Vvenc.preset, i_offset=offset, intra_period=self.base_intra_period)

    @property
    def label(self) -> str:
        chosen = [one for one in self.chosen_label if self.base_codec == "hevc" or one not in ("lean", "base")]
        parts = ["VVC"] * (self.base_codec == "vvc") + [*chosen, f"QP {self.qp}{self.base_label}"]
        reference = [] if self.reference_qp is None else [f"{self.reference_codec.upper()} {self.reference_qp}"]
        extras = (*["look"] * self.best_look, *["kp"] * self.send_keypoints, *["always"] * self.always_fused)
        extras += ("residual",) * self.residual
        return " ".join(("H-DAC", *parts, *reference, *extras))

    @property
    def version(self) -> str:
        parts = [str(CODE_VERSION), weights.weights_id(weights.find(self.network)).hex(), self.base_encoder.version]
        if self.residual:
            parts += [weights.weights_id(weights.find(self.residual_network)).hex(), str(RESIDUAL_VERSION)]
        if self.reference_qp is not None:
            parts.append(reference_picture.version(self.reference_codec, self.reference_qp))
        return " ".join(parts)

    def command(self, clip: Clip) -> str:
        return f"{self.base_command(clip)}; {self!r}"

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
        settled, pictures = self.settled(clip)
        assert settled.i_offset is not None
        header = LayeredHeader(
            StreamHeader.of(clip, self.name),
            base_qp=self.qp,
            reference_qp=self.qp - settled.i_offset if self.reference_qp is None else self.reference_qp,
            reference_codec="base" if self.reference_qp is None else self.reference_codec,
            best_look=self.best_look,
            keypoints_sent=self.send_keypoints,
            keypoint_step=self.keypoint_step,
            jacobians=self.send_keypoints and network.net.settings.detector.jacobians,
            checksum_interval=self.checksum_interval,
            weights_id=network.weights_id,
            residual_id=residuals.weights_id if residuals else b"",
            face_box=face_box.find(clip),
            base_codec=self.base_codec,
            base_every=self.base_every,
            base_half=self.base_half,
        )
        animator = Animator(network, header.base_qp, header.reference_qp, header.best_look, header.face_box)
        motion = KeypointEncoder(keypoint_settings(network.net.settings.detector, header)) if self.send_keypoints else None
        writer, choice = Writer(header), _best_look if self.best_look else _LeastError(self.qp)
        parts, size = [writer.header], (clip.height, clip.width)
        residual_rule = ResidualRule(self.quantiser)
        enhancer = ResidualCoder(residuals, size, header.face_box) if residuals else None
        corrections = _corrections(animator, [], size)  # of the pictures up to the next intra picture
        for i, picture in enumerate(pictures):
            t = i * self.base_every
            source, decoded, sent = _planes(clip, t), picture.planes, None
            if picture.intra:
                shown = decoded
                if self.reference_qp is not None:
                    sent = reference_picture.encode(source, clip.colour, self.reference_qp, self.reference_codec)
                    shown = reference_picture.decode(sent, clip.height, clip.width, self.reference_codec, clip.colour)
                at_rest = animator.refer_to(shown)
                residual_rule.renewed(squared_error(source, shown))
                if enhancer:
                    enhancer.begin_anew()
                if motion:
                    symbols = motion.settings.quantise(*at_rest)
                    motion.start(symbols)
                    animator.rest_at(motion.settings.dequantise(symbols))
                else:
                    followers = itertools.takewhile(lambda one: not one.intra, pictures[i + 1 :])
                    corrections.close()
                    corrections = _corrections(animator, [*([picture] if sent is None else []), *followers], size)
            keypoints = layer = None
            if motion:
                if picture.intra:  # the target is the reference
                    layer = parities(symbols)
                else:
                    symbols = motion.settings.quantise(*animator.keypoints(source))
                    layer = motion.encode(symbols)
                keypoints = motion.settings.dequantise(symbols)
            strength = 0  # a reference of its own is shown as it is
            if sent is None and self.always_fused and self.base_every == 1 and not enhancer:
                strength = FULL  # and nobody asks what it looks like
            elif sent is None:
                corrected = alone(animator.unrounded(decoded, keypoints, size)) if motion else next(corrections)
                strengths = (FULL,) if self.always_fused or self.best_look else STRENGTHS
                by_strength = {0: decoded} | {n: corrected.at(n) for n in strengths}
                if self.always_fused:
                    strength = FULL
                else:  # outside of the box they are the same, which must not make up for what looks bad in it
                    inside = {n: face_box.cut(planes, header.face_box) for n, planes in by_strength.items()}
                    strength = choice(face_box.cut(source, header.face_box), inside)
                shown = by_strength[strength]
            extra = None
            if enhancer and not picture.intra:
                error = squared_error(source, shown)
                if residual_rule.lacks(error) and enhancer.may_go_on:
                    extra, enhanced, left = enhancer.find(source, shown, residual_rule.multiplier)
                    options = {"nothing": (0, error), "residual": (8 * len(extra or b""), left)}
                    if extra is None or residual_rule.cheapest(error, options) == "nothing":
                        extra = None
                        residual_rule.refused()
                if extra is not None:
                    shown = enhanced
                    enhancer.count()
                    residual_rule.renewed(left, 8 * len(extra), error)
                    animator.refer_to(enhanced)
                    if keypoints is not None:
                        animator.rest_at(keypoints)
                    else:
                        followers = itertools.takewhile(lambda one: not one.intra, pictures[i + 1 :])
                        corrections.close()
                        corrections = _corrections(animator, followers, size)
            parts.append(writer.add(Unit(picture.payload, picture.plain, layer, sent, extra, strength)))
            for between in range(t + 1, min(t + self.base_every, clip.n_frames)):
                source, candidates = _planes(clip, between), [shown]
                if motion:
                    symbols = motion.settings.quantise(*animator.keypoints(source))
                    keypoints = motion.settings.dequantise(symbols)
                    candidates.append(animator.task(None, keypoints, size, around=decoded)())
                best = self._without_base(source, decoded, candidates, header.face_box)
                if best is shown:
                    unit = Unit(repeated="shown")
                elif best is decoded or motion is None:
                    unit = Unit(repeated="base")
                else:
                    unit = Unit(keypoints=motion.encode(symbols))
                shown = best
                parts.append(writer.add(unit))
        return b"".join(parts) + writer.finish()

    def _without_base(self, source: Planes, base: Planes, candidates: list[Planes], box: Box | None) -> Planes:
        """What a frame without a base picture shows: the best of the candidates, or the base layer's last picture, `base`."""
        if not self.always_fused and not self.best_look:
            candidates = [*candidates, base]
        best = min(candidates, key=lambda candidate: squared_error(source, candidate))
        if not self.best_look or self.always_fused:
            return best
        looks = {0: face_box.cut(base, box), FULL: face_box.cut(best, box)}
        return best if _best_look(face_box.cut(source, box), looks) else base


def _corrections(
    animator: Animator, pictures: Iterable[BasePicture], size: tuple[int, int]
) -> Generator[Unrounded, None, None]:
    """What the networks make of base pictures, from the reference that the animator has now."""
    reference = animator.reference  # that of now, whatever the animator refers to when a picture's turn comes
    return in_flight((animator.unrounded(one.planes, None, size, reference=reference) for one in pictures), at_once())


class _LeastError:
    """At which strength the networks' correction is shown: by squared error against true bits, without looking ahead.

    A change costs a byte. Summed up from the first frame on, the pictures shown are never worse than the base layer.
    """

    def __init__(self, qp: int) -> None:
        self.price = 8 * lagrange_multiplier(qp)
        self.strength = 0
        self.gained = 0.0

    def __call__(self, source: Planes, at: Mapping[int, Planes]) -> int:
        """at: by strength, the pictures to choose from; 0: the base layer."""
        errors = {strength: squared_error(source, planes) for strength, planes in at.items()}
        self.strength = min(errors, key=lambda strength: errors[strength] + self.price * (strength != self.strength))
        if self.gained + errors[0] - errors[self.strength] < 0:  # kept for the byte that a change costs
            self.strength = 0
        self.gained += errors[0] - errors[self.strength]
        return self.strength


def _best_look(source: Planes, at: Mapping[int, Planes]) -> int:
    return FULL if _dissimilarity(source, at[FULL]) <= TOLERATED * _dissimilarity(source, at[0]) else 0


def _dissimilarity(source: Planes, shown: Planes) -> float:
    """1 - SSIM of luma over 8x8 windows (Wang et al., 2004, constants for 8 bit)."""
    a, b = source[0].astype(np.float32), shown[0].astype(np.float32)

    def mean(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(x, (8, 8)), np.float32)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(1 - similarity.mean())


def _planes(clip: Clip, t: int) -> Planes:
    return clip.y[t], clip.u[t], clip.v[t]


# -- decoder ---------------------------------------------------------------------------------------------------------


def decode(reader: Reader, ahead: bool = False) -> Iterator[Planes]:
    """Pictures as their units arrive or, ahead of that, several at once (`hdac.codecs.in_flight`).

    Raises BitstreamError for damage, WeightsMismatch for weights that are not here.
    """
    shown: Planes | None = None
    for picture in in_flight(_tasks(reader), at_once() if ahead else 1):
        shown = shown if picture is None else picture
        assert shown is not None  # frame 0 has a base picture
        yield shown


def _tasks(reader: Reader) -> Iterator[Callable[[], Planes | None]]:
    """Per frame what gives the picture shown; None: the last one once more."""
    from hdac import network as networks
    from hdac.codecs.animator import Animator
    from hdac.codecs.residual import ResidualCoder
    from hdac.nets.hybrid import HybridNet
    from hdac.nets.residual import ResidualNet

    header = reader.header
    network = networks.by_id(header.weights_id, HybridNet)
    animator = Animator(network, header.base_qp, header.reference_qp, header.best_look, header.face_box)
    settings = keypoint_settings(network.net.settings.detector, header)
    motion = KeypointDecoder(settings) if header.keypoints_sent else None
    size = header.stream.height, header.stream.width
    enhancer = None
    if header.residual_id:
        enhancer = ResidualCoder(networks.by_id(header.residual_id, ResidualNet), size, header.face_box)
    for picture in base_layer.decode(checked_units(reader), header):
        if not picture.new:
            if picture.unit.residual is not None:
                raise BitstreamError("a residual without a base picture")
            if motion and picture.unit.keypoints is not None:
                moved = settings.dequantise(motion.decode(picture.unit.keypoints))
                yield animator.task(None, moved, size, around=picture.planes)
            else:
                yield partial(same, picture.planes if picture.unit.repeated == "base" else None)
            continue
        unfused = picture.planes
        if picture.intra:
            if header.reference_codec != "base":
                if picture.unit.reference is None:
                    raise BitstreamError("an intra picture without the reference that belongs to it")
                sent, colour = picture.unit.reference, header.stream.colour
                unfused = reference_picture.decode(sent, *size, header.reference_codec, colour)
            at_rest = animator.refer_to(unfused)
            if enhancer:
                enhancer.begin_anew()
        elif animator.reference is None:
            raise BitstreamError("the first picture of the base layer is no intra picture")
        keypoints = None
        if motion:
            if picture.unit.keypoints is None:
                raise BitstreamError("a frame without keypoints in a stream that sends them")
            if picture.intra:
                symbols = settle(settings, settings.unrounded(*at_rest), picture.unit.keypoints)
                motion.start(symbols)
                animator.rest_at(settings.dequantise(symbols))
            else:
                symbols = motion.decode(picture.unit.keypoints)
            keypoints = settings.dequantise(symbols)
        if picture.unit.residual is not None:
            if picture.intra or enhancer is None:  # the second `checked_units` knows
                raise BitstreamError("an intra picture with a residual beside it")
            if picture.unit.strength:
                unfused = alone(animator.task(picture.planes, keypoints, size, strength=picture.unit.strength))
            enhanced = enhancer.enhance(unfused, picture.unit.residual)
            animator.refer_to(enhanced)
            if keypoints is not None:
                animator.rest_at(keypoints)
            yield partial(same, enhanced)
        elif picture.unit.strength:
            yield animator.task(picture.planes, keypoints, size, strength=picture.unit.strength)
        else:
            yield partial(same, unfused)

"""face-vid2vid: Wang, Mallya, Liu, "One-shot free-view neural talking-head synthesis for video conferencing", CVPR 2021.

    first frame --------> BPG, or another still ----> reference, shown as it is
    every other frame --> head pose and deformations of 3D keypoints (`hdac.parameters`) ----> reference, animated
    now and then -------> a binary residual (`hdac.codecs.residual`): the enhanced frame is the reference from then on
                          or a new reference picture

Canonical keypoints, and the motion of a reference picture, the decoder finds by itself. The motion of a reference that a
residual has made is that of its frame, as it was sent, with all its deformations. Motion is predicted from what was sent
before, never from what a network has found alone, so it decodes to the same numbers everywhere.

How many of the deformations are sent, frame by frame, the encoder decides by squared error of that frame against true bits, or
it is fixed.

When a residual or a new reference picture is sent says `hdac.codecs.refresh`. An enhanced picture has been drawn by networks
before: it is animated for least error and as a fine picture, for what they sharpen they sharpen anew with every residual. They
do so still, but less.

So that nobody sees a jump, a switch from one reference to the next takes some frames, in which both are animated and mixed
(`Fade`); a scene cut is none, and a switch within a switch begins from the newer of its two references. Its length, one of
FADES, is the unit's "strength" in the container. Seen from elsewhere, by the decoder's own choice (`View`), a clip is animated
from first to last: references, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.clip import Clip
from data.errors import BitstreamError, InputError
from hdac import weights
from hdac.codecs import reference as reference_picture
from hdac.codecs.animation import AnimationCodec
from hdac.codecs.base_layer import Planes
from hdac.codecs.in_flight import alone, at_once, in_flight
from hdac.codecs.layered import check_size, checked_units, lagrange_multiplier, squared_error
from hdac.codecs.refresh import CUT_DB, RESIDUAL_VERSION, ResidualRule, psnr_y, squared_error_y
from hdac.codecs.view import View
from hdac.container import Reader, Unit, Writer
from hdac.keypoints import parities, settle
from hdac.parameters import (
    CODERS,
    Motion,
    PaperDecoder,
    PaperEncoder,
    ParameterDecoder,
    ParameterEncoder,
    ParameterSettings,
)

if TYPE_CHECKING:
    from hdac.codecs.face_animator import FaceAnimator
    from hdac.nets.vid2vid import Vid2VidNet

CODE_VERSION = 5
"""Raised with every change that can change a stream or a decoded frame."""

ENHANCED_VERSION = 2
"""Raised with every change that can only change those with residuals."""

RESIDUALS = ("never", "rd", "period")
"""Of what is sent beside pictures: no residuals; where they pay; one every `intra_period` frames, in the place of a picture."""

FADES = (0, 2, 4, 8)
"""Frames that a switch may take; numbers in the stream, never reorder."""

MOTION_PRICE = 40.0
"""Of a bit of motion, in Lagrangian factors of HEVC's reference software for the reference's QP. Chosen on training clips: a
seventh less of it than with 1, at the same LPIPS and PSNR; with 160 both begin to suffer."""

TRY_EVERY = 4
"""Frames, chosen: from one trial of another number of deformations to the next; with 2 a frame takes a fifth more time, for
nothing."""

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
"""chosen: of all deformations, numbers of them among which the encoder decides."""


@dataclass(frozen=True, kw_only=True)
class FaceVid2Vid(AnimationCodec):
    """The codec of 3D keypoints."""

    refresh: str = "never"
    residual: str = "never"
    """When residuals are sent: one of RESIDUALS."""
    keypoints: int | None = None
    """How many deformations are sent; None: as many as pay."""
    motion_coder: str = "adaptive"
    """"adaptive", or "paper": see `hdac.parameters`."""
    step: int = 64
    """Quantiser steps per unit of what either motion coder is given. Chosen on training clips: 128 takes a quarter more rate
    for 1.5 % of LPIPS."""
    fade: int = 4
    """Frames that a switch from one reference to the next takes: one of FADES."""
    best_look: bool = True
    network: str = "face-vid2vid"
    residual_network: str = "residual"
    enhanced_as_sent: bool = field(default=False, repr=False)  # keys of streams without residuals stay what they were
    """Whether pictures that a residual has enhanced are animated as those that were sent."""

    name: ClassVar[str] = "face-vid2vid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.residual not in RESIDUALS:
            raise InputError(f"residual {self.residual!r} is not one of {', '.join(RESIDUALS)}")
        if self.residual == "period" and not self.intra_period:
            raise InputError("residual 'period' without an intra_period")
        if self.fade not in FADES:
            raise InputError(f"fade {self.fade} is not one of {', '.join(map(str, FADES))}")
        if self.motion_coder not in CODERS:
            raise InputError(f"motion_coder {self.motion_coder!r} is not one of {', '.join(CODERS)}")
        if self.keypoints is not None and self.keypoints < 0:
            raise InputError(f"{self.keypoints} keypoints cannot be sent")
        ParameterSettings(self.keypoints or 1, self.step)

    @property
    def label(self) -> str:
        parts = [f"face-vid2vid {self.codec_label}"]
        parts += [self.refresh_label] * (self.refresh != "never") + ["least error"] * (not self.best_look)
        parts += [f"residual {self.residual}" + " as sent" * self.enhanced_as_sent] * (self.residual != "never")
        parts += [f"step {self.step}"] * (self.step != FaceVid2Vid.step)
        parts += [f"fade {self.fade}"] * (self.fade != FaceVid2Vid.fade)
        parts += [] if self.keypoints is None else [f"{self.keypoints} kp"]
        return " ".join(parts + ["paper's coder"] * (self.motion_coder == "paper"))

    @property
    def version(self) -> str:
        parts = [str(CODE_VERSION), weights.weights_id(weights.find(self.network)).hex()]
        if self.residual != "never":
            parts += [weights.weights_id(weights.find(self.residual_network)).hex()]
            parts += [f"{RESIDUAL_VERSION}.{ENHANCED_VERSION}{' look' * self.enhanced_as_sent}"]
        return " ".join((*parts, reference_picture.version(self.reference_codec, self.qp)))

    def decode_view(self, bitstream: bytes, view: View, wanted: Collection[int] | None = None) -> Clip:
        """As `hdac.decoder.decode_view`."""
        from hdac.decoder import decode_view

        return decode_view(bitstream, view, wanted)

    # -- encoder -----------------------------------------------------------------------------------------------------

    def encode(self, clip: Clip) -> bytes:
        """The whole stream."""
        check_size(clip.width, clip.height)
        return _Encoding(self, clip).stream()

    def fade_between(self, source: Planes, before: Planes, new: Planes) -> int:
        """Frames of a switch from what was shown to a new reference: none at a scene cut."""
        lost_db = psnr_y(squared_error_y(source, new), source) - psnr_y(squared_error_y(source, before), source)
        return 0 if lost_db > CUT_DB else self.fade


class _Residual(NamedTuple):
    """A residual that may be sent."""

    sent: _Sent
    """The motion that it goes with."""
    layer: bytes
    shown: Planes
    error: float


class _Encoding:
    """A stream while it is made."""

    def __init__(self, codec: FaceVid2Vid, clip: Clip) -> None:
        from hdac import network as networks  # PyTorch takes a second: not in a process that codes without it
        from hdac.codecs.face_animator import FaceAnimator
        from hdac.codecs.residual import ResidualCoder
        from hdac.nets.residual import ResidualNet
        from hdac.nets.vid2vid import Vid2VidNet

        network = networks.by_name(codec.network, Vid2VidNet)
        n_keypoints = network.net.settings.n_keypoints
        if codec.keypoints is not None and codec.keypoints > n_keypoints:
            raise InputError(f"{codec.keypoints} keypoints of a network that has {n_keypoints}")
        residuals = None
        if codec.residual != "never":
            residuals = networks.by_name(codec.residual_network, ResidualNet)
        header = codec.header(
            clip,
            best_look=codec.best_look,
            keypoint_step=codec.step,
            paper_coder=codec.motion_coder == "paper",
            weights_id=network.weights_id,
            residual_id=residuals.weights_id if residuals else b"",
            enhanced_apart=residuals is not None and not codec.enhanced_as_sent,
        )
        self.codec, self.clip = codec, clip
        self.size = clip.height, clip.width
        self.animator = FaceAnimator(network, codec.qp, codec.best_look, header.face_box, header.enhanced_apart)
        self.enhancer = ResidualCoder(residuals, self.size, header.face_box) if residuals else None
        self.sender = _Sender(codec, network.net, self.animator, self.size)
        self.picture_rule, self.residual_rule = codec.refresh_rule(), ResidualRule(codec.qp, codec.fade)
        self.writer = Writer(header)

    def stream(self) -> bytes:
        """All of it."""
        parts = [self.writer.header]
        parts += [self.writer.add(self._unit(t)) for t in range(self.clip.n_frames)]
        return b"".join(parts) + self.writer.finish()

    def _unit(self, t: int) -> Unit:
        """What is sent of frame t."""
        codec, enhancer = self.codec, self.enhancer
        source = self.clip.y[t], self.clip.u[t], self.clip.v[t]
        periodic = codec.residual == "period"
        due = bool(codec.intra_period and t % codec.intra_period == 0)
        self.animator.next_frame()
        if t == 0 or due and not periodic:
            return self._with_picture(source, *codec.new_picture(self.clip, t))
        sent = self.sender.send(source)
        error = squared_error(source, sent.shown)
        switching, pictures = self.animator.fade is not None, periodic or codec.refresh != "never"
        lacks = self.residual_rule.lacks(error, switching)
        wants_picture = self.picture_rule.wants_new(source, squared_error_y(source, sent.shown), switching)
        if enhancer and not enhancer.may_go_on and pictures:
            wants_picture |= due if periodic else lacks
        residual, tried = None, False
        if enhancer and enhancer.may_go_on and (due if periodic else wants_picture or lacks):
            residual, tried = self._find_residual(source, sent), True
        # costs, bits and error: of a picture where its rule says that there must be one, of nothing where it does not
        options = {}
        if not wants_picture and not (periodic and residual):
            options["nothing"] = 8 * len(sent.layer), error
        if residual:
            options["residual"] = 8 * (len(residual.sent.layer) + len(residual.layer)), residual.error
        if wants_picture or (residual and pictures and not periodic):
            picture, decoded = codec.new_picture(self.clip, t)
            n_bytes = len(picture) + self.sender.n_at_rest
            options["picture"] = 8 * n_bytes, squared_error(source, decoded)
        best = self.residual_rule.cheapest(error, options)
        if best == "picture":
            return self._with_picture(source, picture, decoded)
        if residual and best == "residual":
            return self._with_residual(source, residual)
        if tried:
            self.residual_rule.refused()
        self.sender.accept(sent)
        return Unit(keypoints=sent.layer, strength=FADES.index(codec.fade))  # of every unit: what stays takes no byte

    def _find_residual(self, source: Planes, sent: _Sent) -> _Residual | None:
        """None: no block of it is worth its bits."""
        from hdac.codecs.residual import ALL

        assert self.enhancer is not None
        whole = self.sender.with_all(source, sent)
        multiplier = ALL if self.codec.residual == "period" else self.residual_rule.multiplier
        layer, shown, error = self.enhancer.find(source, whole.shown, multiplier)
        return None if layer is None else _Residual(whole, layer, shown, error)

    def _with_picture(self, source: Planes, picture: bytes, decoded: Planes) -> Unit:
        """A new reference picture."""
        animator, fade = self.animator, self.codec.fade
        animator.refer_to(decoded, fade=fade)
        at_rest = self.sender.start()
        if animator.fade is not None:
            fade = self.codec.fade_between(source, alone(animator.left(self.size)), decoded)
            animator.shorten(fade)
        if self.enhancer:
            self.enhancer.begin_anew()
        self.picture_rule.refreshed(source, decoded, 8 * len(picture))
        self.residual_rule.renewed(squared_error(source, decoded))
        return Unit(reference=picture, keypoints=at_rest, strength=FADES.index(fade))

    def _with_residual(self, source: Planes, residual: _Residual) -> Unit:
        """The enhanced frame is the new reference."""
        assert self.enhancer is not None
        self.enhancer.count()
        self.sender.accept(residual.sent)
        fade = self.codec.fade_between(source, residual.sent.shown, residual.shown)
        self.animator.refer_to(residual.shown, residual.sent.motion, fade)
        self.picture_rule.enhanced(source, residual.shown)
        self.residual_rule.renewed(residual.error, 8 * len(residual.layer), squared_error(source, residual.sent.shown))
        return Unit(keypoints=residual.sent.layer, residual=residual.layer, strength=FADES.index(fade))


class _Sent(NamedTuple):
    """Motion of a frame as it may be sent."""

    found: Motion
    """As the networks have it."""
    coder: ParameterEncoder | PaperEncoder
    """Behind this frame."""
    motion: Motion
    """As the decoder has it."""
    layer: bytes
    shown: Planes
    n_sent: int


class _Sender:
    """Motion of one frame after another, and how many of its deformations are worth their bits."""

    def __init__(self, codec: FaceVid2Vid, net: Vid2VidNet, animator: FaceAnimator, size: tuple[int, int]) -> None:
        n = net.settings.n_keypoints
        self.animator, self.size = animator, size
        self.factor = MOTION_PRICE * lagrange_multiplier(codec.qp)
        counts = [round(share * n) for share in FRACTIONS] if codec.keypoints is None else [codec.keypoints]
        self.counts = sorted(set(counts))
        self.used, self.n_sent, self.upwards = len(self.counts) - 1, 0, False
        self.settings = ParameterSettings(n, codec.step)
        self.coder: ParameterEncoder | PaperEncoder = ParameterEncoder(self.settings)
        if codec.motion_coder == "paper":
            self.coder = PaperEncoder(tables_of(net))

    @property
    def n_at_rest(self) -> int:
        """Bytes that `start` returns."""
        return 0 if isinstance(self.coder, PaperEncoder) else (int(np.prod(self.settings.shape)) + 7) // 8

    def start(self) -> bytes | None:
        """Begins anew from the reference picture of the animator; returns what is sent with it."""
        if isinstance(self.coder, PaperEncoder):
            return None
        symbols = self.settings.quantise(self.animator.at_rest)
        self.coder.start(symbols)
        self.animator.rest_at(self.settings.dequantise(symbols))
        return parities(symbols)

    def send(self, source: Planes) -> _Sent:
        """The motion of a frame, with as many deformations as pay. What is sent of it is coded when it is accepted.

        Tried are as many as the last frame had and, in every TRY_EVERY-th frame, the number above or below it in turns: a
        picture each, and twice as many while a switch lasts.
        """
        tried = [self.counts[self.used]]
        due = self.n_sent % TRY_EVERY == 0
        self.n_sent += 1
        if due and len(self.counts) > 1:
            self.upwards = not self.upwards
            other = self.used + (1 if self.upwards else -1)
            tried.append(self.counts[other if 0 <= other < len(self.counts) else 2 * self.used - other])
        best = self._best(source, self.animator.motion(source), tried)
        self.used = self.counts.index(best.n_sent)
        return best

    def with_all(self, source: Planes, sent: _Sent) -> _Sent:
        """The same with all deformations, as a frame is sent that becomes a reference."""
        n = self.settings.n_keypoints
        return sent if sent.n_sent == n else self._best(source, sent.found, [n])

    def accept(self, sent: _Sent) -> None:
        self.coder = sent.coder

    def _best(self, source: Planes, found: Motion, counts: list[int]) -> _Sent:
        options = []
        for count in counts:
            coder = self.coder.copied()
            if isinstance(coder, PaperEncoder):
                layer, table = coder.encode_first(coder.steady(found, self.settings), count)
                motion = Motion.of(table)
            else:
                symbols = coder.steady(found)
                motion = self.settings.dequantise(coder.held(symbols, count))
                layer = coder.encode_first(symbols, count)
            options.append((coder, motion, layer, count))
        tasks = [self.animator.task(motion, self.size) for _, motion, _, _ in options]
        pictures = in_flight(tasks, at_once())
        sent = [_Sent(found, *one[:3], shown, one[3]) for one, shown in zip(options, pictures, strict=True)]
        return min(sent, key=lambda one: squared_error(source, one.shown) + self.factor * 8 * len(one.layer))


def tables_of(net: Vid2VidNet) -> NDArray[np.int32]:
    """The paper's coder's tables, which are part of the weights."""
    tables: NDArray[np.int32] = net.tables.numpy().astype(np.int32)
    return tables


# -- decoder ---------------------------------------------------------------------------------------------------------


def decode(
    reader: Reader, ahead: bool = False, view: View | None = None, wanted: Collection[int] | None = None
) -> Iterator[Planes]:
    """Pictures as their units arrive or, ahead of that, several at once (`hdac.codecs.in_flight`).

    view:   from where the face is to be seen; None: as it was.
    wanted: numbers of the frames that are to be shown; None: all.
    Raises BitstreamError for damage, WeightsMismatch for weights that are not here.
    """
    tasks = (task for t, task in enumerate(_tasks(reader, view)) if wanted is None or t in wanted)
    return in_flight(tasks, at_once() if ahead else 1)


def deformations_sent(reader: Reader) -> list[int | None]:
    """How many deformations every frame brings that is not a reference picture, None of those in which nothing moves; raises
    what `decode` does."""
    counts: list[int | None] = []
    for _ in _tasks(reader, None, counts):  # what pictures wait for is done, they themselves are not
        pass
    return counts


def _tasks(reader: Reader, view: View | None, counts: list[int | None] | None = None) -> Iterator[Callable[[], Planes]]:
    """Per frame what gives the picture shown. counts: where to add how many deformations a frame brings, None where nothing
    moves."""
    from hdac import network as networks
    from hdac.codecs.face_animator import FaceAnimator
    from hdac.codecs.residual import ResidualCoder
    from hdac.nets.residual import ResidualNet
    from hdac.nets.vid2vid import Vid2VidNet

    header = reader.header
    if header.reference_codec == "base" or not header.keypoints_sent:
        raise BitstreamError("face-vid2vid has references of its own and sends motion, the header says something else")
    network = networks.by_id(header.weights_id, Vid2VidNet)
    animator = FaceAnimator(network, header.reference_qp, header.best_look, header.face_box, header.enhanced_apart)
    view = View() if view is None else view
    size = header.stream.height, header.stream.width
    enhancer = None
    if header.residual_id:
        enhancer = ResidualCoder(networks.by_id(header.residual_id, ResidualNet), size, header.face_box)
    settings = ParameterSettings(network.net.settings.n_keypoints, header.keypoint_step)
    adaptive = ParameterDecoder(settings)
    try:
        paper = PaperDecoder(tables_of(network.net)) if header.paper_coder else None
    except InputError as error:
        raise BitstreamError(f"the stream needs tables: {error}") from error

    for t, unit in enumerate(checked_units(reader)):
        animator.next_frame()
        if unit.reference is not None:
            if unit.residual is not None:
                raise BitstreamError(f"frame {t}: a reference picture with a residual beside it")
            if (unit.keypoints is None) != (paper is not None):
                raise BitstreamError(f"frame {t}: a reference picture {'without' if paper is None else 'with'} parities")
            decoded = reference_picture.decode(unit.reference, *size, header.reference_codec, header.stream.colour)
            animator.refer_to(decoded, fade=FADES[unit.strength])
            if unit.keypoints is not None:
                symbols = settle(settings, settings.unrounded(animator.at_rest), unit.keypoints)
                adaptive.start(symbols)
                animator.rest_at(settings.dequantise(symbols))
            if enhancer:
                enhancer.begin_anew()
            yield animator.switched(decoded, size) if view.is_own else animator.task(animator.at_rest, size, view)
            continue
        if animator.reference is None:
            raise BitstreamError(f"frame {t} comes in front of the first reference picture")
        if unit.keypoints is None:
            raise BitstreamError(f"frame {t} has no motion")
        if paper is not None:
            motion = Motion.of(paper.decode(unit.keypoints))
        else:
            motion = settings.dequantise(adaptive.decode(unit.keypoints))
        if counts is not None:
            counts.append((paper or adaptive).count if unit.keypoints else None)
        if unit.residual is not None:
            assert enhancer is not None  # `checked_units` knows
            before = alone(animator.task(motion, size))
            enhanced = enhancer.enhance(before, unit.residual)
            animator.refer_to(enhanced, motion, FADES[unit.strength])
            yield animator.switched(enhanced, size, before) if view.is_own else animator.task(motion, size, view)
            continue
        yield animator.task(motion, size, view)

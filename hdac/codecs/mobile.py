"""The mobile family: reference pictures animated by learned keypoints, landmarks, or both (`hdac.nets.animation` says whose
papers these are).

    first frame --------> BPG, or another still ----> reference, shown as it is
    every other frame --> points, and what else its network wants said (`hdac.points`) ----> references, animated
    now and then -------> a further reference

SegFace sends label maps in the place of points (`hdac.label_maps`).

Which of the systems a stream is of, its weights say. A reference layer is a byte and the picture: 0 takes the place of all that
were there, 1 comes beside them; 2 and 3 likewise, but the picture is of another frame than its unit, whose own points follow
what is sent with the reference. Of several references a Frontalizer merges what they show; any
other network animates the one whose points are nearest to those of the frame (the papers' "FOM mult").

Learned keypoints of a target picture are where optical flow from it to a reference, the one which the flow makes most like
it, says that those of the reference have gone to, or where the network's detector finds them: its settings say which. Landmarks
are found by the landmark student, by encoder and decoder alike in reference pictures.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from data.clip import Clip
from data.errors import BitstreamError, InputError
from hdac import points, weights
from hdac.codecs import reference as reference_picture
from hdac.codecs.animation import AnimationCodec
from hdac.codecs.base_layer import Planes
from hdac.codecs.further import STRIDE, FurtherSources
from hdac.codecs.in_flight import at_once, in_flight, same
from hdac.codecs.layered import check_size, checked_units
from hdac.codecs.refresh import RULES, squared_error_y
from hdac.container import LayeredHeader, Reader, Unit, Writer
from hdac.points import CODERS, HOLD, MAX_SOURCES, STEP, PointEncoder, PointSettings, Replay, Values, motion_distance
from hdac.published_coders import Lengths, Prior

if TYPE_CHECKING:
    from hdac.codecs.point_animator import PointAnimator
    from hdac.codecs.source_choice import SourceChoice
    from hdac.nets.animation import PointNet

CODE_VERSION = 7
"""Raised with every change that can change a stream or a decoded frame."""
LANDMARK_VERSION = 2
"""Likewise, of those that have landmarks."""
FURTHER_VERSION = 1
"""Likewise, of those that may have several references."""

MAX_FINE_TUNING = 1000
"""Steps in a whole stream, however many references it has: a guard of the time."""
MIN_GAP = 12
"""Frames, chosen: from one reference to the next that "distance" asks for: nobody looks at what it costs."""
PAYS = 0.5
"""Chosen: a reference of another frame is sent if it saves so much of the error that the frame has over a reference's own."""
WHEN_FAR = ("source", "rest", "replay")
CHOSEN_FROM = ("now", "clip")
_NEW, _FURTHER, _ELSEWHERE = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Mobile(AnimationCodec):
    """A codec of the mobile family; `network` says which."""

    network: str
    """Its weights, and the name of the system."""
    landmark_network: str = "landmarks"
    segmentation_network: str = "segmentation"
    refresh: str = "never"
    """When further references are sent, or, where there is one at a time, new ones: one of `hdac.codecs.refresh.RULES`, or
    "distance": where points are farther than `tau` from those of every reference, which nothing has to be decoded for (Lu and
    Zheng 2023, section 3.3)."""
    tau: float = 3.0
    """Of "distance": largest `hdac.points.motion_distance`. Chosen on training clips: of FOMM's frames
    beyond it 82 % are among the worst quarter, and of these it has 72 %; of Motion Net 10U+20L's 70 % and 36 %
    (`tests/bench/bench_filter.py`, 24 clips). Other networks have other points, and may want another one."""
    when_far: str = "source"
    """Of "distance": what comes where points are too far: "source", a new reference; "rest", the points of the nearest
    reference, a still face; or "replay", the last frames that were not, played back and forth (`hdac.points.Replay`)."""
    sources: int = 1
    """References at once, up to MAX_SOURCES: a further one is sent where it pays, until there are so many (of "rd":
    `hdac.codecs.further`; the other rules ask for one as they ask for a new one)."""
    chosen_from: str = "now"
    """Where references are from: "now", the frame with which they are sent, or "clip", the frames of the whole clip that are
    worth most (`hdac.codecs.source_choice`), which an encoder must have to the end."""
    motion_coder: str = "adaptive"
    """One of `hdac.points.CODERS`."""
    step: int = STEP
    """Quantiser steps per unit of points, Jacobians apart."""
    best_look: bool = True
    int8: bool = False
    """Whether points and labels are found by networks in 8-bit integers (`hdac.int8`)."""
    hold: tuple[float, float] = HOLD
    """Steps by which points may move without anything being sent, as `hdac.points.HOLD`."""

    name: ClassVar[str] = "mobile"
    REFRESHES: ClassVar[tuple[str, ...]] = (*RULES, "distance")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tau > 0:
            raise InputError(f"tau {self.tau} is not positive")
        if self.chosen_from not in CHOSEN_FROM:
            raise InputError(f"references from {self.chosen_from!r} are not from one of {', '.join(CHOSEN_FROM)}")
        if self.when_far not in WHEN_FAR:
            raise InputError(f"when_far {self.when_far!r} is not one of {', '.join(WHEN_FAR)}")
        if not 1 <= self.sources <= MAX_SOURCES:
            raise InputError(f"sources={self.sources} is not between 1 and {MAX_SOURCES}")
        if self.sources > 1 and (self.refresh == "never" or self.refresh == "distance" and self.when_far != "source"):
            rule = self.refresh + f" by {self.when_far}" * (self.refresh == "distance")
            raise InputError(f"sources={self.sources} with refresh {rule!r}: no further ones would come")
        if self.motion_coder not in CODERS:
            raise InputError(f"motion_coder {self.motion_coder!r} is not one of {', '.join(CODERS)}")
        PointSettings(1, 0, step=self.step, hold=self.hold)  # which says what cannot be

    @property
    def label(self) -> str:
        parts = [f"{self.network} {self.codec_label}"]
        refresh = self.refresh_label
        if self.refresh == "distance":
            refresh = f"distance > {self.tau:g}" + f" {self.when_far}" * (self.when_far != "source")
        parts += [refresh] * (self.refresh != "never") + [f"{self.sources} sources"] * (self.sources > 1)
        parts += ["chosen"] * (self.chosen_from == "clip")
        parts += ["least error"] * (not self.best_look) + [f"step {self.step}"] * (self.step != Mobile.step)
        parts += [f"hold {self.hold[0]:g}, {self.hold[1]:g}"] * (self.hold != HOLD)
        parts += ["int8"] * self.int8
        return " ".join(parts + [f"{self.motion_coder} coder"] * (self.motion_coder != "adaptive"))

    @property
    def version(self) -> str:
        said = weights.settings(weights.find(self.network))
        draws = "n_landmarks" not in said  # from label maps, or from all landmarks
        labels, landmarks = bool(said.get("map_side")), draws or bool(said["n_landmarks"] or said.get("spade"))
        finders = [self.network]
        finders += [self.segmentation_network] * labels + [self.landmark_network] * (landmarks and not labels)
        choosing = [self.landmark_network] * (self.chosen_from == "clip")  # which integers are never asked to
        ids = [weights.weights_id(weights.find(name)).hex() for name in dict.fromkeys((*finders, *choosing))]
        if self.int8:
            from hdac.int8 import finders_id

            ids += [finders_id(name) for name in finders]
        code = str(CODE_VERSION) + f".{LANDMARK_VERSION}" * (self.landmark_network in finders)
        code += f".{FURTHER_VERSION}" * (self.sources > 1)
        return " ".join((code, *ids, reference_picture.version(self.reference_codec, self.qp)))

    # -- encoder -----------------------------------------------------------------------------------------------------

    def encode(self, clip: Clip) -> bytes:
        """The whole stream."""
        check_size(clip.width, clip.height)
        from hdac import network as networks  # PyTorch takes a second: not in a process that codes without it
        from hdac.codecs.point_animator import PointAnimator
        from hdac.codecs.source_choice import SourceChoice, landmarks_of
        from hdac.nets.animation import PointNet
        from hdac.nets.landmarks import LandmarkNet
        from hdac.nets.segmentation import SegmentationNet

        network = networks.by_name(self.network, PointNet)
        settings = network.net.settings
        student = networks.by_name(self.landmark_network, LandmarkNet) if settings.landmarks_sent else None
        segmenter = networks.by_name(self.segmentation_network, SegmentationNet) if settings.map_side else None
        header = self.header(
            clip,
            best_look=self.best_look,
            keypoint_step=self.step,
            jacobians=settings.jacobians,
            motion_coder=self.motion_coder,
            weights_id=network.weights_id,
            landmarks_id=student.weights_id if student else b"",
        )
        animator = PointAnimator(
            network, student, self.qp, self.best_look, header.face_box, segmenter, found_by_int8=self.int8
        )
        settled = replace(point_settings(network.net, header), hold=self.hold)
        coder = points.encoder(self.motion_coder, settled, *statistics(network.net))
        if settings.map_side and (self.refresh == "distance" or self.sources > 1):
            raise InputError(f"the network {self.network} has no points, which refresh 'distance' and several sources need")
        choice = None
        if self.chosen_from == "clip":
            finder = networks.by_name(self.landmark_network, LandmarkNet)
            choice = SourceChoice(landmarks_of(clip, finder, settings.multiple, header.face_box))
        sender = _Sender(self, clip, animator, coder, choice)
        writer = Writer(header)
        parts = [writer.header]
        period = self.intra_period or clip.n_frames
        for t in range(clip.n_frames):
            due = t % period == 0
            parts.append(writer.add(sender.first(t, min(t + period, clip.n_frames)) if due else sender.next(t)))
        return b"".join(parts) + writer.finish()


class _Sender:
    """What an encoder knows and does, frame by frame."""

    def __init__(
        self, codec: Mobile, clip: Clip, animator: PointAnimator, coder: PointEncoder, choice: SourceChoice | None
    ) -> None:
        self.codec, self.clip, self.animator, self.coder, self.choice = codec, clip, animator, coder, choice
        self.rule, self.size = codec.refresh_rule(), (clip.height, clip.width)
        self.sources: list[int] = []
        """Of which frames the references are."""
        self.last = 0
        """Frame with which the last one was sent."""
        self.further: FurtherSources | None = None
        if codec.refresh == "rd" and codec.sources > 1:
            self.further = FurtherSources(
                codec.qp, codec.refresh_price, clip.y[0].size, self._priced, self._found, self._error
            )
        self.replay = Replay()
        self.planned: list[int] = []
        """Frames whose pictures are sent with the next ones."""

    def first(self, t: int, end: int) -> Unit:
        """The reference that takes the place of all others, up to frame `end`."""
        unit = self._reference(t, t if self.choice is None else self.choice.frontal, _NEW)
        if self.choice is not None and self.further is not None:
            finder = copy.copy(self.animator)  # which goes ahead: the encoder's own is still at this frame
            some = [(at, finder.values(self._source(at))) for at in range(t + 1, end, STRIDE)]
            extremes = set(self.choice.extremes) - set(self.sources)
            self.planned = self.further.worth(some, extremes, self.animator, self.coder, self.codec.sources - 1)
        return unit

    def next(self, t: int) -> Unit:
        """Motion, or a reference where the rule wants one and there may be another."""
        codec, kind = self.codec, _FURTHER if self.codec.sources > 1 else _NEW
        if self.planned:
            return self._reference(t, self.planned.pop(0), _FURTHER)
        values = self.animator.values(self._source(t))
        if codec.refresh == "distance" and codec.when_far != "source":
            values = self._instead(values)
        may_come = codec.refresh != "never" and (codec.sources == 1 or len(self.sources) < codec.sources)
        if codec.refresh == "distance":
            may_come = may_come and codec.when_far == "source" and t - self.last >= MIN_GAP
        after = copy.deepcopy(self.coder) if may_come else self.coder
        layer, had = after.encode(values)
        if self.further is not None:
            of = self.further.paid(t, self.animator, after, had) if may_come and self.choice is None else None
            if of is not None:
                return self._reference(t, of, _FURTHER)
        elif may_come and self._wants_new(t, had):
            if self.choice is not None and self._pays(t, self.choice.extreme(t), kind, had):
                return self._reference(t, self.choice.extreme(t), kind)
            if t not in self.sources:
                return self._reference(t, t, kind)
        self.coder = after
        return Unit(keypoints=layer)

    def _instead(self, values: Values) -> Values:
        """What is sent of a frame whose points may be too far."""
        near = self.animator.nearest(values)
        if motion_distance(values, near) <= self.codec.tau:
            self.replay.remember(values)
            return values
        replayed = self.replay.next() if self.codec.when_far == "replay" else None
        return near if replayed is None else replayed

    def _wants_new(self, t: int, had: Values) -> bool:
        """Whether another reference should come with this frame, of which a decoder will have these values."""
        if self.codec.refresh == "distance":
            return motion_distance(had, self.animator.nearest(had)) > self.codec.tau
        return self.rule.wants_new(self._source(t), self._error(t, self.animator, had))

    def _pays(self, t: int, of: int, kind: int, had: Values) -> bool:
        """Whether a picture of another frame would be a better reference of this one."""
        if of in self.sources or of == t:
            return False
        trial, coder = copy.copy(self.animator), copy.deepcopy(self.coder)
        _, decoded = self.codec.new_picture(self.clip, of)
        trial.rest_at(coder.start(trial.refer_to(decoded, kind == _FURTHER))[1])
        _, would_have = coder.encode(trial.values(self._source(t)))
        without, with_it = self._error(t, self.animator, had), self._error(t, trial, would_have)
        return with_it - self.rule.floor < PAYS * (without - self.rule.floor)

    def _reference(self, t: int, of: int, kind: int) -> Unit:
        """A picture of frame `of`, sent with frame t."""
        picture, decoded = self.codec.new_picture(self.clip, of)
        sent, at_rest = self.coder.start(self.animator.refer_to(decoded, kind == _FURTHER))
        self.animator.rest_at(at_rest)
        if of != t:
            layer, _ = self.coder.encode(self.animator.values(self._source(t)))
            kind, sent = kind + _ELSEWHERE, (sent or b"") + layer
        self.sources = [*self.sources, of] if kind & _FURTHER else [of]
        if self.further is not None:
            self.further.sent()
        self.last = t
        self.rule.refreshed(self._source(of), decoded, 8 * len(picture))  # what a reference loses of its own frame
        return Unit(reference=bytes((kind,)) + picture, keypoints=sent)

    def _priced(self, of: int) -> tuple[int, Planes]:
        picture, decoded = self.codec.new_picture(self.clip, of)
        return 8 * len(picture), decoded

    def _found(self, t: int, animator: PointAnimator) -> Values:
        return animator.values(self._source(t))

    def _source(self, t: int) -> Planes:
        return self.clip.y[t], self.clip.u[t], self.clip.v[t]

    def _error(self, t: int, animator: PointAnimator, had: Values) -> float:
        """Of a frame as a decoder shows it."""
        return squared_error_y(self._source(t), animator.task(had, self.size)())


def point_settings(net: PointNet, header: LayeredHeader) -> PointSettings:
    """What is sent of this network's points. Raises BitstreamError where the header says something else."""
    s = net.settings
    if header.jacobians != s.jacobians:
        raise BitstreamError(f"the stream says jacobians={header.jacobians}, its network {s.jacobians}")
    return PointSettings(s.n_learned, len(s.landmarks_sent), s.jacobians, s.n_expression, header.keypoint_step, s.map_side)


def statistics(net: PointNet) -> tuple[Lengths, Prior]:
    """Of the published coders, which are part of the weights."""
    lengths: Lengths = net.huffman.numpy()
    prior: Prior = net.prior.numpy()
    return lengths, prior


# -- decoder ---------------------------------------------------------------------------------------------------------


def decode(reader: Reader, ahead: bool = False, fine_tune: int = 0, int8: bool = False) -> Iterator[Planes]:
    """Pictures as their units arrive or, ahead of that, several at once (`hdac.codecs.in_flight`).

    fine_tune: steps by which the network is fitted to every reference (`hdac.codecs.fine_tuning`).
    int8: the network in 8-bit integers (`hdac.int8`).
    Raises BitstreamError for damage, WeightsMismatch for weights that are not here, InputError for a network that cannot be
    fitted, CodecUnavailable for one that is not here in integers.
    """
    return in_flight(_tasks(reader, fine_tune, int8), at_once() if ahead else 1)


def _tasks(reader: Reader, fine_tune: int, int8: bool) -> Iterator[Callable[[], Planes]]:
    """Per frame what gives the picture shown."""
    from hdac import network as networks
    from hdac.codecs.point_animator import PointAnimator
    from hdac.nets.animation import PointNet
    from hdac.nets.landmarks import LandmarkNet

    header = reader.header
    if header.reference_codec == "base" or not header.keypoints_sent or header.residual_id:
        raise BitstreamError("the mobile family has references of its own, sends points and no residuals; the header differs")
    network = networks.by_id(header.weights_id, PointNet)
    if bool(header.landmarks_id) != bool(network.net.settings.landmarks_sent):
        raise BitstreamError(f"landmarks in the header: {bool(header.landmarks_id)}, and its network differs")
    landmarks = networks.by_id(header.landmarks_id, LandmarkNet) if header.landmarks_id else None
    animator = PointAnimator(network, landmarks, header.reference_qp, header.best_look, header.face_box, None, fine_tune, int8)
    try:
        coder = points.decoder(header.motion_coder, point_settings(network.net, header), *statistics(network.net))
    except InputError as error:
        raise BitstreamError(f"the stream needs statistics: {error}") from error
    size = header.stream.height, header.stream.width
    for unit in checked_units(reader):
        if unit.reference is not None:
            kind, picture, sent = unit.reference[:1], unit.reference[1:], unit.keypoints
            if not kind or kind[0] > _FURTHER + _ELSEWHERE:
                raise BitstreamError(f"a reference layer of {len(unit.reference)} bytes, first {kind.hex()}")
            further, elsewhere = bool(kind[0] & _FURTHER), bool(kind[0] & _ELSEWHERE)
            if further and not 0 < len(animator.sources) < MAX_SOURCES:
                raise BitstreamError(f"a further reference beside {len(animator.sources)}")
            decoded = reference_picture.decode(picture, *size, header.reference_codec, header.stream.colour)
            if elsewhere and sent is not None:  # those of the frame come behind those of the reference
                sent = sent[: coder.n_at_rest] or None
            animator.rest_at(coder.start(animator.refer_to(decoded, further), sent))
            if not elsewhere:
                yield partial(same, decoded)
                continue
            unit = replace(unit, keypoints=None if unit.keypoints is None else unit.keypoints[coder.n_at_rest :])
        if unit.keypoints is None or not animator.sources:
            raise BitstreamError("a frame without points, or in front of the first reference")
        yield animator.task(coder.decode(unit.keypoints), size)

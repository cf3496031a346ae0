"""The mobile family: reference pictures animated by learned keypoints, landmarks, or both (`hdac.nets.animation` says whose
papers these are).

    first frame --------> BPG, or another still ----> reference, shown as it is
    every other frame --> points, and what else its network wants said (`hdac.points`) ----> references, animated
    now and then -------> a further reference

SegFace sends label maps in the place of points (`hdac.label_maps`).

Which of the systems a stream is of, its weights say. A reference layer is a byte, 0 where the picture takes the place of all
that were there, 1 where it comes beside them, and the picture. Of several references a Frontalizer merges what they show; any
other network animates the one whose points are nearest to those of the frame (the papers' "FOM mult").

Learned keypoints of a target picture are where optical flow from it to the first reference says that those of the reference
have gone to, or where the network's detector finds them: its settings say which. Landmarks are found by the landmark student,
by encoder and decoder alike in reference pictures.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from data.clip import Clip
from data.errors import BitstreamError, InputError
from hdac import points, weights
from hdac.codecs import reference as reference_picture
from hdac.codecs.animation import AnimationCodec
from hdac.codecs.base_layer import Planes
from hdac.codecs.in_flight import at_once, in_flight, same
from hdac.codecs.layered import check_size, checked_units
from hdac.codecs.refresh import squared_error_y
from hdac.container import LayeredHeader, Reader, Unit, Writer
from hdac.points import CODERS, PointSettings
from hdac.published_coders import Lengths, Prior

if TYPE_CHECKING:
    from hdac.nets.animation import PointNet

CODE_VERSION = 1
"""Raised with every change that can change a stream or a decoded frame."""

MAX_SOURCES = 3
_NEW, _FURTHER = 0, 1


@dataclass(frozen=True, kw_only=True)
class Mobile(AnimationCodec):
    """A codec of the mobile family; `network` says which."""

    network: str
    """Its weights, and the name of the system."""
    landmark_network: str = "landmarks"
    segmentation_network: str = "segmentation"
    refresh: str = "never"
    """When further references are sent, or, where there is one at a time, new ones."""
    sources: int = 1
    """References at once, up to MAX_SOURCES: a further one is sent where it pays, until there are so many."""
    motion_coder: str = "adaptive"
    """One of `hdac.points.CODERS`."""
    step: int = 128
    """Quantiser steps per unit of points, Jacobians apart."""
    best_look: bool = True

    name: ClassVar[str] = "mobile"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.sources <= MAX_SOURCES:
            raise InputError(f"sources={self.sources} is not between 1 and {MAX_SOURCES}")
        if self.sources > 1 and self.refresh == "never":
            raise InputError(f"sources={self.sources} with refresh 'never': no further ones would come")
        if self.motion_coder not in CODERS:
            raise InputError(f"motion_coder {self.motion_coder!r} is not one of {', '.join(CODERS)}")
        PointSettings(1, 0, step=self.step)

    @property
    def label(self) -> str:
        parts = [f"{self.network} {self.codec_label}"]
        parts += [self.refresh_label] * (self.refresh != "never") + [f"{self.sources} sources"] * (self.sources > 1)
        parts += ["least error"] * (not self.best_look) + [f"step {self.step}"] * (self.step != 128)
        return " ".join(parts + [f"{self.motion_coder} coder"] * (self.motion_coder != "adaptive"))

    @property
    def version(self) -> str:
        said = weights.settings(weights.find(self.network))
        networks = [self.network]
        if said.get("map_side"):
            networks.append(self.segmentation_network)
        elif said.get("n_landmarks", 1) or said.get("spade"):
            networks.append(self.landmark_network)
        ids = [weights.weights_id(weights.find(name)).hex() for name in networks]
        return " ".join((str(CODE_VERSION), *ids, reference_picture.version(self.reference_codec, self.qp)))

    # -- encoder -----------------------------------------------------------------------------------------------------

    def encode(self, clip: Clip) -> bytes:
        """The whole stream."""
        check_size(clip.width, clip.height)
        from hdac import network as networks  # PyTorch takes a second: not in a process that codes without it
        from hdac.codecs.point_animator import PointAnimator
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
        animator = PointAnimator(network, student, self.qp, self.best_look, header.face_box, segmenter)
        coder = points.encoder(self.motion_coder, point_settings(network.net, header), *statistics(network.net))
        rule, size = self.refresh_rule(), (clip.height, clip.width)
        writer = Writer(header)
        parts = [writer.header]
        for t in range(clip.n_frames):
            source = clip.y[t], clip.u[t], clip.v[t]
            kind = _NEW
            if t > 0 and not (self.intra_period and t % self.intra_period == 0):
                may_come = self.refresh != "never" and (self.sources == 1 or len(animator.sources) < self.sources)
                after = copy.deepcopy(coder) if may_come else coder
                layer, had = after.encode(animator.values(source))
                shown = animator.task(had, size)() if may_come else None
                if shown is None or not rule.wants_new(source, squared_error_y(source, shown)):
                    coder = after
                    parts.append(writer.add(Unit(keypoints=layer)))
                    continue
                kind = _FURTHER if self.sources > 1 else _NEW
            picture, decoded = self.new_picture(clip, t)
            sent, at_rest = coder.start(animator.refer_to(decoded, kind == _FURTHER))
            animator.rest_at(at_rest)
            rule.refreshed(source, decoded, 8 * len(picture))
            parts.append(writer.add(Unit(reference=bytes((kind,)) + picture, keypoints=sent)))
        return b"".join(parts) + writer.finish()


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


def decode(reader: Reader, ahead: bool = False) -> Iterator[Planes]:
    """Pictures as their units arrive or, ahead of that, several at once (`hdac.codecs.in_flight`).

    Raises BitstreamError for damage, WeightsMismatch for weights that are not here.
    """
    return in_flight(_tasks(reader), at_once() if ahead else 1)


def _tasks(reader: Reader) -> Iterator[Callable[[], Planes]]:
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
    animator = PointAnimator(network, landmarks, header.reference_qp, header.best_look, header.face_box)
    try:
        coder = points.decoder(header.motion_coder, point_settings(network.net, header), *statistics(network.net))
    except InputError as error:
        raise BitstreamError(f"the stream needs statistics: {error}") from error
    size = header.stream.height, header.stream.width
    for unit in checked_units(reader):
        if unit.reference is not None:
            kind, picture = unit.reference[:1], unit.reference[1:]
            further = kind == bytes((_FURTHER,))
            if not further and kind != bytes((_NEW,)):
                raise BitstreamError(f"a reference layer of {len(unit.reference)} bytes, first {kind.hex()}")
            if further and not 0 < len(animator.sources) < MAX_SOURCES:
                raise BitstreamError(f"a further reference beside {len(animator.sources)}")
            decoded = reference_picture.decode(picture, *size, header.reference_codec, header.stream.colour)
            animator.rest_at(coder.start(animator.refer_to(decoded, further), unit.keypoints))
            yield partial(same, decoded)
            continue
        if unit.keypoints is None or not animator.sources:
            raise BitstreamError("a frame without points, or in front of the first reference")
        yield animator.task(coder.decode(unit.keypoints), size)

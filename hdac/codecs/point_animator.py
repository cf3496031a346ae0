"""The networks of the mobile family at work on 8-bit planes: what encoder and decoder run alike (`hdac.codecs.animator`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.clip import Clip
from data.crop import Box
from data.errors import InputError
from hdac.codecs import face_box
from hdac.codecs.animator import Size, Stage, luma_of
from hdac.codecs.base_layer import Planes
from hdac.codecs.fine_tuning import fine_tuned
from hdac.codecs.mobile import MAX_FINE_TUNING, Mobile
from hdac.landmarks import COUNT, OUTER_EYE_CORNERS, label_map, sketch_map
from hdac.nets.animation import AnimationNet, PointNet, Points
from hdac.nets.flow import optical_flow
from hdac.nets.folding import folded
from hdac.nets.hybrid import condition
from hdac.nets.keypoints import Keypoints
from hdac.nets.landmarks import LandmarkNet
from hdac.nets.layers import coordinate_grid, warp_packed
from hdac.nets.motion import followed
from hdac.nets.segmentation import SegmentationNet
from hdac.network import Network, by_name
from hdac.points import Array, Values, motion_distance

DOUBT = 0.15
"""Chosen: mean distance, in that of the outer eye corners, between landmarks and where optical flow has those of the frame
before, beyond which an encoder asks which of them move the reference better."""
STEADY = 0.5
"""Chosen: how far landmarks are drawn to where optical flow has those of the frame before. By 0.4 and 0.65 alike, streams of
Motion Net 20L at QP 32 (14 training clips, 60 frames) are 1 % shorter; NME, AKD, LPIPS and flicker 1, 1, 0.3 and 2 % less."""
STAYS = 1.0
"""Chosen: by so much in its logarithm the label of the frame before is likelier."""


@dataclass(frozen=True)
class Source:
    """A reference picture, decoded; its points; what the network has made of it."""

    planes: Planes
    values: Values
    seen: Any


class PointAnimator:
    """Shows target pictures from references and what was sent of a picture.

    reference_qp, best_look, box: as of `hdac.codecs.animator.Animator`.
    """

    def __init__(
        self,
        network: Network[PointNet],
        landmarks: Network[LandmarkNet] | None,
        reference_qp: int,
        best_look: bool,
        box: Box | None = None,
        segmenter: Network[SegmentationNet] | None = None,
        fine_tune: int = 0,
        int8: bool = False,
        found_by_int8: bool = False,
    ) -> None:
        """segmenter: of an encoder of label maps. fine_tune: steps by which the network is fitted to every reference
        (`hdac.codecs.fine_tuning`). int8: what shows pictures in 8-bit integers (`hdac.int8`). found_by_int8: likewise what
        finds points and labels of a target picture. Raises InputError for what cannot be, and what `hdac.int8.show_by`
        does."""
        if fine_tune and network.net.settings.map_side:
            raise InputError(f"the network {network.name} draws from label maps, of which references have none: no fine-tuning")
        if fine_tune and int8:
            raise InputError("a network in 8-bit integers is not fine-tuned")
        self.condition = condition(None, torch.tensor([float(reference_qp)]), torch.tensor([float(best_look)]))
        self.net = folded(network.net, self.condition)
        if int8:
            from hdac.int8 import show_by  # ONNX Runtime: not where it is not used

            show_by(self.net, network)
        self._network, self.fine_tune, self._steps_left = network.net, fine_tune, MAX_FINE_TUNING
        self.student = None if landmarks is None else folded(landmarks.net, self.condition)
        self.segmenter = None if segmenter is None else folded(segmenter.net, self.condition)
        self._finding: tuple[PointNet, LandmarkNet | None] | None = None  # of target pictures, where they are others
        if found_by_int8:
            from hdac.int8 import find_by

            finding = folded(network.net, self.condition), None if landmarks is None else folded(landmarks.net, self.condition)
            find_by(finding[0], network)
            if finding[1] is not None and landmarks is not None:
                find_by(finding[1], landmarks)
            if self.segmenter is not None and segmenter is not None:
                find_by(self.segmenter, segmenter)
            self._finding = finding
        self.stage = Stage(self.net.settings.multiple, box)
        self.sources: list[Source] = []
        self._merged: list[Any] = []  # one a source, or one of all of them
        self._labels: NDArray[np.uint8] | None = None  # the last map
        self._coming: Planes | None = None
        self._followed: tuple[Tensor, NDArray[np.uint8]] | None = None
        """Landmarks of the last picture of an encoder, and its luma."""

    @torch.inference_mode()
    def values(self, planes: Planes, of_reference: bool = False) -> Values:
        """What is said of a picture. of_reference: by the networks alone, as a decoder finds it, too."""
        packed = self.stage.packed(self.stage.seen(planes))
        net, student = (self.net, self.student) if of_reference or self._finding is None else self._finding
        landmarks = None
        flows = functools.cache(functools.partial(self._flows, packed))
        if student is not None:
            # a decoder has the reference only: there landmarks are found anew; elsewhere the face is followed from there
            before = None if of_reference else self._followed
            if before is None:
                found_landmarks = student(packed)
            else:
                found_landmarks = self._steadied(student.follow(packed, before[0]), packed, before, net, flows)
            if self._followed is None or not of_reference:
                self._followed = found_landmarks, luma_of(packed)
            landmarks = self._sent(found_landmarks)
        tracked = bool(self.sources) and not of_reference
        learned, jacobians = self._learned(packed, landmarks, net, flows if tracked else None)
        found_codes = net.express(packed)
        expression = None if found_codes is None else found_codes[0].numpy()
        labels = None if of_reference else self._segmented(packed)
        return Values(learned, jacobians, landmarks, expression, labels)

    def _sent(self, landmarks: Tensor) -> Array:
        """Of (1, 68, 2) those that travel."""
        sent: Array = landmarks[0, list(self.net.settings.landmarks_sent)].clamp(-1, 1).numpy()
        return sent

    def _steadied(
        self,
        found: Tensor,
        packed: Tensor,
        before: tuple[Tensor, NDArray[np.uint8]],
        net: PointNet,
        flows: Callable[[], list[Tensor]],
    ) -> Tensor:
        """Landmarks of a picture, (1, 68, 2), drawn towards where optical flow has those of the frame before: what the student
        alone finds trembles.

        Unless they have jumped: a student may lose a face, and nothing looks worse than one that is moved by landmarks of
        something else. Then it is those, or where optical flow has those of the frame before or of the reference, whichever
        move the reference best. Of landmarks that move nothing but are drawn, nobody can say.

        before: landmarks of the frame before, and its luma. net, flows: as of `_learned`.
        """
        s = self.net.settings
        known, luma = before
        here = luma_of(packed)
        carried = followed(known, torch.from_numpy(optical_flow(here, luma))[None])
        steady, believed = settled(found, carried, packed)
        if believed or not isinstance(self.net, AnimationNet) or not s.n_landmarks or not self.sources:
            return steady
        candidates = [found, carried]
        first = self.sources[0]
        assert first.values.landmarks is not None
        from_reference = carried.clone()  # as those that do not travel are not known there
        from_reference[0, list(s.landmarks_sent)] = followed(torch.from_numpy(first.values.landmarks)[None], flows()[0])[0]
        candidates.append(from_reference)
        errors = []
        for landmarks in candidates:
            sent = self._sent(landmarks)
            learned, jacobians = self._learned(packed, sent, net, flows)
            values = Values(learned, jacobians, sent)
            reference = self._merged[0 if len(self._merged) == 1 else self._nearest(values)]
            warped = self.net.moved(reference, self._points(values, packed.shape[-2:])).warped
            errors.append(float((warped - packed)[:, :4].square().mean()))
        return candidates[errors.index(min(errors))]

    def _learned(
        self, packed: Tensor, landmarks: Array | None, net: PointNet, flows: Callable[[], list[Tensor]] | None
    ) -> tuple[Array | None, Array | None]:
        """Keypoints of a picture, and their Jacobians.

        net: what detects them. flows: see `_flows`; None: of a reference, in which they are always detected.
        """
        s = self.net.settings
        if not s.n_learned:
            return None, None
        if s.tracked and flows is not None:
            return self._tracked(packed, landmarks, flows()), None
        found = net.detect(packed)
        assert found is not None
        return found.position[0].numpy(), None if found.jacobian is None else found.jacobian[0].numpy()

    def _flows(self, packed: Tensor) -> list[Tensor]:
        """Optical flow from a picture to every reference, (1, h, w, 2); where references are merged, to the first one."""
        sources = self.sources[:1] if self.net.settings.frontal else self.sources
        return [torch.from_numpy(optical_flow(luma_of(packed), luma_of(one.seen.picture)))[None] for one in sources]

    def _tracked(self, packed: Tensor, landmarks: Array | None, flows: list[Tensor]) -> Array:
        """Where optical flow says that keypoints of a reference have gone: of the one that the flow makes most like the picture
        among those that a decoder would animate by them. Where references are merged, all of it is by the first one's."""
        grid = coordinate_grid(flows[0].shape[1], flows[0].shape[2], packed)
        found: list[tuple[bool, float, Array]] = []
        for number, (one, flow) in enumerate(zip(self.sources, flows, strict=False)):
            assert one.values.learned is not None
            points: Array = followed(torch.from_numpy(one.values.learned)[None], flow)[0].numpy()
            if len(flows) == 1:
                return points
            of_another = self._nearest(Values(learned=points, landmarks=landmarks)) != number
            error = float((warp_packed(one.seen.picture, grid + flow) - packed).square().mean())
            found.append((of_another, error, points))
        return min(found, key=lambda one: one[:2])[2]

    def _segmented(self, packed: Tensor) -> NDArray[np.uint8] | None:
        """A label stays what it was where it is nearly as likely as another: what flickers takes bits."""
        if self.segmenter is None:
            return None
        scores = self.segmenter(packed, self.net.settings.map_side)[0]
        if self._labels is not None:
            scores.scatter_add_(0, torch.from_numpy(self._labels.astype(np.int64))[None], torch.full_like(scores[:1], STAYS))
        self._labels = scores.argmax(0).numpy().astype(np.uint8)
        return self._labels

    def refer_to(self, planes: Planes, beside: bool = False) -> Values:
        """What is said of a new reference picture, which `rest_at` takes. beside: the ones that there are stay."""
        if not beside:
            self.sources = []
        self._coming = planes
        return self.values(planes, of_reference=True)

    @torch.inference_mode()
    def rest_at(self, values: Values) -> None:
        """Takes the new reference picture, with these values: rounded as those that are sent, so that a still head stays
        still."""
        assert self._coming is not None
        packed = self.stage.packed(self.stage.seen(self._coming))
        seen_points = self._points(values, packed.shape[-2:])
        self.sources = [*self.sources, Source(self._coming, values, self.net.source(packed, seen_points))]
        if self.fine_tune:
            self._fit()
        self._coming = None
        seen = [one.seen for one in self.sources]
        self._merged = [self.net.reference(seen)] if self.net.settings.frontal else [self.net.reference([one]) for one in seen]

    def _fit(self) -> None:
        """The network, as it is by now, to all references that there are."""
        known = []
        for one in self.sources:
            packed = self.stage.packed(self.stage.seen(one.planes))
            known.append((packed, self._points(one.values, packed.shape[-2:])))
        steps = min(self.fine_tune, self._steps_left)
        self._steps_left -= steps
        self._network = fine_tuned(self._network, known, self.condition, steps)
        self.net = folded(self._network, self.condition)
        self.sources = [
            replace(one, seen=self.net.source(*points)) for one, points in zip(self.sources, known, strict=True)
        ]

    def task(self, values: Values, size: Size) -> Callable[[], Planes]:
        """What shows the target picture; several may run at once (`hdac.codecs.in_flight`)."""
        number = 0 if len(self._merged) == 1 else self._nearest(values)
        return functools.partial(self._shown, self.net, self.sources[number], self._merged[number], values, size)

    def nearest(self, values: Values) -> Values:
        """The points of the reference that these values animate; of the nearest one where all of them are merged."""
        return self.sources[self._nearest(values)].values

    @property
    def face(self) -> Tensor | None:
        """All landmarks of the picture that `values` was last asked of, (1, 68, 2); None where no student looks."""
        return None if self._followed is None else self._followed[0]

    @property
    def follows_each(self) -> bool:
        """Whether keypoints of a picture follow from the reference that they animate."""
        s = self.net.settings
        return bool(s.n_learned and s.tracked and not s.frontal)

    def _nearest(self, values: Values) -> int:
        """The reference whose points are nearest to these, Jacobians apart."""
        places = values._replace(jacobians=None)
        distances = [motion_distance(places, one.values) for one in self.sources]
        return distances.index(min(distances))

    @torch.inference_mode()
    def _shown(self, net: PointNet, source: Source, reference: Any, values: Values, size: Size) -> Planes:
        out = net(reference, self._points(values, source.seen.picture.shape[-2:]), self.condition)
        s = self.net.settings
        drawn = s.frontal or not s.n_points  # not the first source, moved
        return self.stage.placed(out, None, source.planes, source.planes, size, drawn).at()

    def _points(self, values: Values, shape: Sequence[int]) -> Points:
        """As networks take them. shape: height and width of packed pictures."""
        learned = landmarks = drawn = None
        if values.learned is not None:
            jacobian = None if values.jacobians is None else torch.from_numpy(values.jacobians)[None]
            learned = Keypoints(torch.from_numpy(values.learned)[None], jacobian)
        if values.landmarks is not None:
            landmarks = torch.zeros(1, COUNT, 2)
            landmarks[0, list(self.net.settings.landmarks_sent)] = torch.from_numpy(values.landmarks)
            drawn = drawing(self.net, landmarks[0].numpy(), shape)
        labels = values.labels if drawn is None else drawn
        expression = None if values.expression is None else torch.from_numpy(values.expression)[None]
        return Points(learned, landmarks, None if labels is None else torch.from_numpy(labels)[None], expression)


def settled(found: Tensor, carried: Tensor, packed: Tensor) -> tuple[Tensor, bool]:
    """Landmarks of a picture, (1, 68, 2), and whether they agree with where optical flow has carried those of the frame before,
    between which and what is found they then lie."""
    size = torch.tensor([packed.shape[-1], packed.shape[-2]])
    eyes = ((carried[0, OUTER_EYE_CORNERS[0]] - carried[0, OUTER_EYE_CORNERS[1]]) * size).norm()
    believed = bool(((found - carried) * size).norm(dim=-1).mean() <= DOUBT * eyes)
    return found.lerp(carried, STEADY) if believed else found, believed


def animator_of(network: Network[PointNet], clip: Clip, qp: int) -> PointAnimator:
    """What an encoder of this clip has, with the students that ship."""
    s = network.net.settings
    student = by_name(Mobile.landmark_network, LandmarkNet) if s.landmarks_sent else None
    segmenter = by_name(Mobile.segmentation_network, SegmentationNet) if s.map_side else None
    return PointAnimator(network, student, qp, True, face_box.find(clip), segmenter)


def drawing(net: PointNet, landmarks: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.uint8] | None:
    """What a network wants drawn of 68 landmarks, uint8 (h, w); None: nothing."""
    height, width = shape
    if net.settings.sketched:
        return sketch_map(landmarks, height, width)
    return label_map(landmarks, height, width) if net.settings.spade else None

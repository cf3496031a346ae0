"""face-vid2vid's networks at work on 8-bit planes: what its encoder and decoder run alike (see `hdac.codecs.animator`)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data.crop import Box
from hdac.codecs.animator import Size, Stage, luma_of
from hdac.codecs.base_layer import Planes
from hdac.codecs.in_flight import same
from hdac.codecs.view import View
from hdac.nets import vid2vid
from hdac.nets.flow import MIN_SIDE, optical_flow
from hdac.nets.folding import folded
from hdac.nets.head import turned_head
from hdac.nets.hybrid import Output, condition
from hdac.nets.landmarks import LandmarkNet
from hdac.nets.vid2vid import Parameters, Vid2VidNet
from hdac.network import Network, by_name
from hdac.parameters import Motion

OWN = View()
ENHANCED_QP = 34
"""Of a coded picture that an enhanced one is like. Part of the format, never change it. Chosen on 100 frames of three training
clips: mean LPIPS is 0.149 with it, 0.166 with the references' own QP, 42, and 0.148 with 22, at 3 % more rate."""
LANDMARKS = "landmarks"
"""Weights that find a face's landmarks, for free view."""


@dataclass(frozen=True)
class FaceReference:
    """A reference picture, decoded, and what the networks have made of it."""

    planes: Planes
    seen: vid2vid.Reference
    enhanced: bool = False
    """By a residual."""


@dataclass(frozen=True)
class Fade:
    """A cross-fade from one reference to the next: what is animated is both of them, mixed."""

    before: FaceReference
    length: int
    """Frames that show something of the old reference."""
    n_shown: int = 1
    """How many of them there are with the present one."""

    def mixed(self, old: Planes, new: Planes) -> Planes:
        """In integers, the new one with a weight of n_shown / (length + 1), rounded."""
        whole = self.length + 1
        planes = []
        for a, b in zip(old, new, strict=True):
            total = a.astype(np.uint16) * (whole - self.n_shown) + b.astype(np.uint16) * self.n_shown
            planes.append(((total + whole // 2) // whole).astype(np.uint8))
        return planes[0], planes[1], planes[2]


class FaceAnimator:
    """Shows target pictures from a reference and the motion that was sent.

    A new reference may be faded in: for the frames of a `Fade` the old one is animated beside it, by the same motion.

    reference_qp, best_look, box: as of `hdac.codecs.animator.Animator`.
    enhanced_least_error: whether references that a residual has enhanced are animated for least error, as references of
    ENHANCED_QP if the true QP is not finer. They have been drawn by the network before: what it sharpens in a coded picture it
    sharpens again with every residual, up to a texture of strokes, and less so this way.
    """

    def __init__(
        self,
        network: Network[Vid2VidNet],
        reference_qp: int,
        best_look: bool,
        box: Box | None = None,
        enhanced_least_error: bool = False,
    ) -> None:
        self.condition = _condition(reference_qp, best_look)
        self.net = folded(network.net, self.condition)
        self._of_enhanced = self.net, self.condition
        if enhanced_least_error and (best_look or reference_qp > ENHANCED_QP):
            least_error = _condition(min(reference_qp, ENHANCED_QP), False)
            self._of_enhanced = folded(network.net, least_error), least_error
        self.stage = Stage(self.net.settings.multiple, box)
        self.reference: FaceReference | None = None
        self.fade: Fade | None = None

    def next_frame(self) -> None:
        """Before everything that belongs to a frame."""
        if self.fade is not None:
            n_shown = self.fade.n_shown + 1
            self.fade = replace(self.fade, n_shown=n_shown) if n_shown <= self.fade.length else None

    @torch.inference_mode()
    def refer_to(self, planes: Planes, motion: Motion | None = None, fade: int = 0) -> None:
        """Takes a new reference picture.

        motion: as it was sent, of a picture that a residual has enhanced; None: as the networks find it.
        fade:   for how many frames, this one the first, the old reference is seen, too.
        """
        self.fade = Fade(self.reference, fade) if fade and self.reference is not None else None
        seen = self.net.reference(self.stage.packed(self.stage.seen(planes)))
        if motion is not None:
            seen = seen._replace(parameters=_parameters(motion))
        self.reference = FaceReference(planes, seen, enhanced=motion is not None)
        if motion is None:
            self._follow()

    @torch.inference_mode()
    def motion(self, planes: Planes) -> Motion:
        """Head pose and deformations of a picture, of planes as decoders have them: how the present reference has moved, where
        there is one. Of pictures too small for optical flow what the networks find in them."""
        packed = self.stage.packed(self.stage.seen(planes))
        found = self.net.estimate(packed)
        if self.reference is not None and self._tracks(self.reference):
            found = self._tracked(self.reference.seen, found, packed)
        return Motion(*(values[0].numpy() for values in found))

    def _tracks(self, reference: FaceReference) -> bool:
        """Whether keypoints are followed by optical flow."""
        return self.net.settings.tracked and min(luma_of(reference.seen.picture).shape) >= MIN_SIDE

    def _tracked(self, reference: vid2vid.Reference, found: Parameters, target: Tensor) -> Parameters:
        """Those of a packed target picture in which keypoints of a reference are followed."""
        flow = optical_flow(luma_of(target), luma_of(reference.picture))
        return vid2vid.tracked(reference, found, torch.from_numpy(flow)[None])

    @property
    def at_rest(self) -> Motion:
        """Of the reference."""
        assert self.reference is not None
        return Motion(*(values[0].numpy() for values in self.reference.seen.parameters))

    def rest_at(self, motion: Motion) -> None:
        """Takes another motion of the reference: rounded as that which is sent, so that a still head stays still."""
        assert self.reference is not None
        seen = self.reference.seen._replace(parameters=_parameters(motion))
        self.reference = replace(self.reference, seen=seen)
        self._follow()

    @torch.inference_mode()
    def _follow(self) -> None:
        """Where the keypoints of a new reference are in the one that it is faded in over: it is moved by the same motion, and
        what was found in both of them apart is not at the same places of the face."""
        assert self.reference is not None
        if self.fade is None or not self._tracks(self.reference):
            return
        new, old = self.reference.seen, self.fade.before.seen
        old = old._replace(canonical=new.canonical, parameters=self._tracked(new, old.parameters, old.picture))
        self.fade = replace(self.fade, before=replace(self.fade.before, seen=old))

    def shorten(self, fade: int) -> None:
        """Another length of the switch that has just begun; 0: there is none."""
        self.fade = replace(self.fade, length=fade) if fade and self.fade is not None else None

    def task(self, motion: Motion, size: Size, view: View = OWN) -> Callable[[], Planes]:
        """What shows the target picture; several may run at once (`hdac.codecs.in_flight`).

        motion: as it was sent. size: of the picture, (height, width) in luma samples.
        view:   free view (section 3.2): the decoder's own choice.
        """
        assert self.reference is not None
        if self.fade is None:
            return functools.partial(self._shown, self.reference, motion, size, view)
        return functools.partial(self._faded, self.fade, self.reference, motion, size, view)

    def switched(self, planes: Planes, size: Size, before: Planes | None = None) -> Callable[[], Planes]:
        """What shows a frame that has just become the reference.

        before: what would be shown of it without; None: what the old reference shows, moved by the motion of the new one.
        """
        fade = self.fade
        if fade is None:
            return functools.partial(same, planes)
        if before is not None:
            return functools.partial(fade.mixed, before, planes)
        left = self.left(size)
        return lambda: fade.mixed(left(), planes)

    def left(self, size: Size) -> Callable[[], Planes]:
        """What shows the new reference's own frame, moved from the reference that is left."""
        assert self.fade is not None
        return functools.partial(self._shown, self.fade.before, self.at_rest, size, OWN)

    def _faded(self, fade: Fade, reference: FaceReference, motion: Motion, size: Size, view: View) -> Planes:
        return fade.mixed(self._shown(fade.before, motion, size, view), self._shown(reference, motion, size, view))

    @torch.inference_mode()
    def _shown(self, reference: FaceReference, motion: Motion, size: Size, view: View) -> Planes:
        target = _parameters(motion)
        out = self._out(reference, target) if view.is_own else self._from_elsewhere(reference, target, view)
        return self.stage.placed(out, None, reference.planes, reference.planes, size).at()

    def _out(self, reference: FaceReference, target: Parameters, **view: Tensor) -> Output:
        net, known = self._of_enhanced if reference.enhanced else (self.net, self.condition)
        return net(reference.seen, target, known, **view)

    def _from_elsewhere(self, reference: FaceReference, target: Parameters, view: View) -> Output:
        """By the depth of the keypoints; where they are tracked and have hardly any, by that of a bulge around the face
        (`hdac.nets.head`), which is found in the picture as it was sent."""
        turn = vid2vid.rotation(torch.deg2rad(torch.tensor([view.angles])))
        translation = torch.tensor([view.translation])
        if not self.net.settings.tracked:
            turned = turn @ vid2vid.rotation(target.angles)  # R_d <- R_u R_d
            return self._out(reference, target._replace(translation=target.translation + translation), turned=turned)
        own = self._out(reference, target).picture
        height, width = own.shape[-2:]
        landmarks = self.landmarks(own).clamp(-1.5, 1.5)
        return self._out(reference, target, seen_from=turned_head(landmarks, turn, translation, (height, width)))

    @functools.cached_property
    def landmarks(self) -> LandmarkNet:
        """The student. Raises CodecUnavailable where its weights are not here."""
        return folded(by_name(LANDMARKS, LandmarkNet).net, self.condition)


def _condition(reference_qp: int, best_look: bool) -> Tensor:
    return condition(None, torch.tensor([float(reference_qp)]), torch.tensor([float(best_look)]))


def _parameters(motion: Motion) -> Parameters:
    values: list[Tensor] = [torch.from_numpy(part)[None] for part in motion]
    return Parameters(*values)

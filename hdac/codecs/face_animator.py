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
from hdac.nets.flow import optical_flow
from hdac.nets.folding import folded
from hdac.nets.hybrid import condition
from hdac.nets.vid2vid import Parameters, Vid2VidNet
from hdac.network import Network
from hdac.parameters import Motion


@dataclass(frozen=True)
class FaceReference:
    """A reference picture, decoded, and what the networks have made of it."""

    planes: Planes
    seen: vid2vid.Reference


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
    view: free view (section 3.2): the decoder's own choice.
    """

    def __init__(
        self, network: Network[Vid2VidNet], reference_qp: int, best_look: bool, box: Box | None = None, view: View | None = None
    ) -> None:
        self.condition = condition(None, torch.tensor([float(reference_qp)]), torch.tensor([float(best_look)]))
        self.net = folded(network.net, self.condition)
        self.stage = Stage(self.net.settings.multiple, box)
        self.view = view or View()
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

        motion: as it was sent; None: as the networks find it.
        fade:   for how many frames, this one the first, the old reference is seen, too.
        """
        self.fade = Fade(self.reference, fade) if fade and self.reference is not None else None
        seen = self.net.reference(self.stage.packed(self.stage.seen(planes)))
        if motion is not None:
            seen = seen._replace(parameters=_parameters(motion))
        self.reference = FaceReference(planes, seen)

    @torch.inference_mode()
    def motion(self, planes: Planes) -> Motion:
        """Head pose and deformations of a picture: how the present reference has moved, where there is one."""
        packed = self.stage.packed(self.stage.seen(planes))
        found = self.net.estimate(packed)
        if self.net.settings.tracked and self.reference is not None:
            seen = self.reference.seen
            found = vid2vid.tracked(seen, found, torch.from_numpy(optical_flow(luma_of(packed), luma_of(seen.picture)))[None])
        return Motion(*(values[0].numpy() for values in found))

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

    def task(self, motion: Motion, size: Size) -> Callable[[], Planes]:
        """What shows the target picture; several may run at once (`hdac.codecs.in_flight`)."""
        assert self.reference is not None
        if self.fade is None:
            return functools.partial(self._shown, self.reference, motion, size)
        return functools.partial(self._faded, self.fade, self.reference, motion, size)

    def switched(self, planes: Planes, size: Size, before: Planes | None = None) -> Callable[[], Planes]:
        """What shows a frame that has just become the reference.

        before: what would be shown of it without; None: what the old reference shows, moved by the motion of the new one.
        """
        fade = self.fade
        if fade is None:
            return functools.partial(same, planes)
        if before is not None:
            return functools.partial(fade.mixed, before, planes)
        at_rest = self.at_rest
        return lambda: fade.mixed(self._shown(fade.before, at_rest, size), planes)

    def _faded(self, fade: Fade, reference: FaceReference, motion: Motion, size: Size) -> Planes:
        return fade.mixed(self._shown(fade.before, motion, size), self._shown(reference, motion, size))

    @torch.inference_mode()
    def _shown(self, reference: FaceReference, motion: Motion, size: Size) -> Planes:
        target = _parameters(motion)
        turned = None
        if not self.view.is_own:
            offset = torch.deg2rad(torch.tensor([self.view.angles]))
            turned = vid2vid.rotation(offset) @ vid2vid.rotation(target.angles)  # R_d <- R_u R_d
            target = target._replace(translation=target.translation + torch.tensor([self.view.translation]))
        out = self.net(reference.seen, target, self.condition, turned=turned)
        return self.stage.placed(out, None, reference.planes, reference.planes, size).at()


def _parameters(motion: Motion) -> Parameters:
    values: list[Tensor] = [torch.from_numpy(part)[None] for part in motion]
    return Parameters(*values)

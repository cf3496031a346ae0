"""The networks at work on 8-bit planes: what encoder and decoder of DAC and H-DAC run alike.

What comes back into a later frame, the reference, is a decoded picture of integers. A network's own output is shown and
forgotten, at most shown once more: where another machine rounds a pixel differently it differs by one level there, and nowhere
else. (A residual makes a picture shown the reference: what that means says `hdac.codecs.residual`.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.clip import Plane
from data.crop import Box
from hdac.codecs import face_box
from hdac.codecs.base_layer import Planes
from hdac.container import FULL
from hdac.keypoints import Points
from hdac.nets import hybrid
from hdac.nets.flow import optical_flow
from hdac.nets.folding import folded
from hdac.nets.hybrid import HybridNet, condition
from hdac.nets.keypoints import Keypoints
from hdac.nets.layers import warp_packed
from hdac.nets.picture import pack, unpack
from hdac.network import Network

Size = tuple[int, int]
"""(height, width)"""
ENHANCED_QP = 28
"""Of a coded picture that an enhanced one is like. Part of the format, never change it. Chosen on 100 frames of three training
clips at QP 48, 41 and 36, one reference each. Means with best look: 28 11.4 kbit/s, LPIPS 0.230, 25.6 dB PSNR-Y; 22 11.9,
0.231, 25.8; the references' own 12.0, 0.235, 25.8. Animated as what was sent: 11.3, 0.253, 25.5."""


@dataclass(frozen=True)
class Reference:
    """A reference picture, decoded, and what the network has made of it, or of its face box."""

    planes: Planes
    seen: hybrid.Reference
    enhanced: bool = False
    """By a residual; known in DAC alone."""


@dataclass(frozen=True)
class Unrounded:
    """A target picture as the networks give it."""

    picture: Tensor
    """Packed (1, 6, h, w)."""
    base: Tensor | None
    """The base layer that it corrects, likewise; None: it corrects none."""
    rounded: Callable[[Tensor], Planes]
    """A picture like the first to planes: cropped, set into what lies around."""

    def at(self, strength: int = FULL) -> Planes:
        """With that many halves of what was changed in the base layer. Rounded but once: at every strength another machine's
        picture differs by a level at most."""
        if strength == FULL:
            return self.rounded(self.picture)
        assert self.base is not None
        return self.rounded(self.base + (self.picture - self.base) * (strength / FULL))


class Stage:
    """What comes before and after a network that moves a reference: what it sees of planes, and where what it gives belongs.

    box: what the network sees of every picture (`hdac.codecs.face_box`); None: all. Pictures come and go whole.
    """

    def __init__(self, multiple: int, box: Box | None) -> None:
        self.multiple = multiple
        self.box = box

    def seen(self, planes: Planes) -> Planes:
        """What the network sees of a picture."""
        return planes if self.box is None else face_box.shrink(face_box.cut(planes, self.box), face_box.network_size(self.box))

    def packed(self, planes: Planes) -> Tensor:
        """(1, 6, H/2, W/2), padded to what the network takes by repeating the last row and column."""
        height, width = (-(-n // self.multiple) * self.multiple for n in planes[0].shape)
        y = _padded(planes[0], height, width)
        u, v = (_padded(plane, height // 2, width // 2) for plane in planes[1:])
        flat = np.concatenate((y.ravel(), u.ravel(), v.ravel()))
        return pack(torch.from_numpy(flat)[None], height, width).contiguous(memory_format=torch.channels_last)

    def placed(
        self, out: hybrid.Output, base: Tensor | None, changed: Planes, outside: Planes, size: Size, drawn: bool = False
    ) -> Unrounded:
        """What a network gave, where it belongs.

        base:    the base layer that was corrected, packed; None: the reference was.
        changed: that picture, whole. outside: what lies around the face box.
        drawn:   nothing was corrected: all of the picture is new.
        """
        if self.box is None:
            return Unrounded(out.picture, base, lambda picture: _planes(picture, size))
        box = self.box
        inside = face_box.cut(changed, box)
        seen_width, seen_height = face_box.network_size(box)
        if (seen_height, seen_width) == inside[0].shape:
            return Unrounded(
                out.picture, base, lambda picture: face_box.compose(outside, _planes(picture, (seen_height, seen_width)), box)
            )
        levels: face_box.Levels = inside
        if drawn:
            y, u, v = (np.zeros(plane.shape, np.float32) for plane in inside)
            levels = y, u, v
        elif base is None:  # what is changed is the reference, warped: at its full size
            height, width = inside[0].shape
            levels = _levels(warp_packed(self.packed(inside), out.motion.deformation), height, width)
        start = out.warped if base is None else base

        def enlarged(picture: Tensor) -> Planes:
            changes = _levels(picture if drawn else picture - start, seen_height, seen_width)
            return face_box.compose(outside, face_box.add_enlarged(levels, changes), box)

        return Unrounded(out.picture, base, enlarged)


class Animator:
    """Shows target pictures from a reference, keypoints and, in H-DAC, the decoded base layer.

    base_qp:      of the base layer's P pictures; None: there is no base layer. Frames may be without it all the same.
    reference_qp: of the reference pictures.
    best_look:    whether the network is asked for best look rather than least error.
    box:          what the network sees of every picture (`hdac.codecs.face_box`); None: all. Pictures come and go whole.
    enhanced_best_look: whether references that a residual has enhanced are animated, where there is no base layer, for best
    look, as references of ENHANCED_QP if the true QP is not finer. For least error the network blurs what it is not sure of,
    and with every residual it would blur again what it has blurred before.
    """

    def __init__(
        self,
        network: Network[HybridNet],
        base_qp: int | None,
        reference_qp: int,
        best_look: bool,
        box: Box | None = None,
        enhanced_best_look: bool = False,
    ) -> None:
        qp = None if base_qp is None else torch.tensor([float(base_qp)])
        of_reference, look = torch.tensor([float(reference_qp)]), torch.tensor([float(best_look)])
        self.condition, self._without_base = condition(qp, of_reference, look), condition(None, of_reference, look)
        self.net = folded(network.net, self.condition)
        self.stage = Stage(self.net.settings.multiple, box)
        self._network = network.net
        self._of_enhanced: tuple[HybridNet, Tensor] | None = None
        sharp = condition(None, torch.tensor([float(min(reference_qp, ENHANCED_QP))]), torch.ones(1))
        if enhanced_best_look and not torch.equal(sharp, self._without_base):
            self._of_enhanced = folded(network.net, sharp), sharp
        self.reference: Reference | None = None

    @torch.inference_mode()
    def refer_to(self, planes: Planes, enhanced: bool = False) -> Points:
        """Takes a new reference picture, sent or enhanced by a residual; returns its keypoints."""
        self.reference = Reference(planes, self.net.reference(self.stage.packed(self.stage.seen(planes))), enhanced)
        return _points(self.reference.seen.keypoints)

    def rest_at(self, points: Points) -> None:
        """Takes other keypoints of the reference: rounded as those that are sent, so that a still head stays still."""
        assert self.reference is not None
        seen = self.reference.seen._replace(keypoints=_keypoints(points))
        self.reference = replace(self.reference, seen=seen)

    @torch.inference_mode()
    def keypoints(self, planes: Planes) -> Points:
        """Keypoints of a picture."""
        return _points(self.net.detect(self.stage.packed(self.stage.seen(planes))))

    def task(
        self,
        base: Planes | None,
        keypoints: Points | None,
        size: Size,
        around: Planes | None = None,
        strength: int = FULL,
        reference: Reference | None = None,
    ) -> Callable[[], Planes]:
        """What shows the target picture; several may run at once (`hdac.codecs.in_flight`).

        base:      decoded base layer, or None.
        keypoints: as sent, or None: detected on the base layer.
        around:    what lies around the face box; None: the base layer or, where there is none, the reference.
        strength:  halves of what the networks change in the base layer.
        reference: None: the present one.
        """
        unrounded = self.unrounded(base, keypoints, size, around, reference)
        return lambda: unrounded().at(strength)

    def unrounded(
        self,
        base: Planes | None,
        keypoints: Points | None,
        size: Size,
        around: Planes | None = None,
        reference: Reference | None = None,
    ) -> Callable[[], Unrounded]:
        """`task` for an encoder that wants to see the picture at several strengths."""
        reference = self.reference if reference is None else reference
        assert reference is not None and (base is not None or keypoints is not None)
        return functools.partial(self._unrounded, reference, base, keypoints, size, around)

    @torch.inference_mode()
    def _unrounded(
        self, reference: Reference, base: Planes | None, keypoints: Points | None, size: Size, around: Planes | None
    ) -> Unrounded:
        packed = None if base is None else self.stage.packed(self.stage.seen(base))
        if keypoints is not None:
            target = _keypoints(keypoints)
        else:
            assert packed is not None
            target = self.net.detect(packed)
        flow = None
        if packed is not None and self.net.settings.motion.flow:
            flow = torch.from_numpy(optical_flow(luma_of(packed), luma_of(reference.seen.picture)))[None]
        if packed is None:
            net, known = self._animation, self._without_base
            if reference.enhanced and self._of_enhanced is not None:
                net, known = self._of_enhanced
            out = net(reference.seen, target, None, known)
        else:
            out = self.net(reference.seen, target, packed, self.condition, flow=flow)
        changed = reference.planes if base is None else base
        return self.stage.placed(out, packed, changed, changed if around is None else around, size)

    @functools.cached_property
    def _animation(self) -> HybridNet:
        """The network for pictures without a base layer."""
        return self.net if torch.equal(self.condition, self._without_base) else folded(self._network, self._without_base)


def _points(keypoints: Keypoints) -> Points:
    """Those of the only picture of a batch."""
    position, jacobian = keypoints
    return position[0].numpy(), None if jacobian is None else jacobian[0].numpy()


def _keypoints(points: Points) -> Keypoints:
    """A batch of one picture."""
    position, jacobian = points
    return Keypoints(torch.from_numpy(position)[None], None if jacobian is None else torch.from_numpy(jacobian)[None])


def _planes(packed: Tensor, size: Size) -> Planes:
    """The only picture of a packed batch, cropped to (height, width)."""
    y, u, v = unpack(packed, *size)
    return y[0], u[0], v[0]


def _levels(packed: Tensor, height: int, width: int) -> face_box.Levels:
    """A packed picture or difference, (1, 6, H/2, W/2), as planes in 8-bit levels, not rounded, cropped to an even size."""
    levels = packed[0].float() * 255
    y = F.pixel_shuffle(levels[:4], 2)[0, :height, :width]
    u, v = levels[4:, : height // 2, : width // 2]
    return y.numpy(), u.numpy(), v.numpy()


def luma_of(packed: Tensor) -> Plane:
    """The luma samples of a packed picture (1, 6, H/2, W/2)."""
    samples: Plane = (F.pixel_shuffle(packed[0, :4], 2)[0] * 255).round().to(torch.uint8).numpy()
    return samples


def _padded(plane: Plane, height: int, width: int) -> Plane:
    return np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), mode="edge")
